//go:build !unix

package omahaclient_test

import "errors"

func limitFiles(bool) error { return errors.New("this system has no limit on the size of files") }
