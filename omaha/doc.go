// Package omaha is a client of the Omaha protocol, version 3, as Nebraska and other servers speak it.
package omaha
