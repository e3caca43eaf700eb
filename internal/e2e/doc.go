// Package e2e holds no code of its own: its tests pull images from CNCF's registry, give them to podman, and measure the pulls beside
// other libraries'.
//
// It is a module of its own: the registry alone brings 60 modules and wants a newer Go than the library. A go.work that tied
// both together would ask everybody who works on the library for that Go too; so there is none, and the tests run in this folder:
//
//	cd internal/e2e && go test ./... && go test -run '^$' -bench . -benchtime 3x
package e2e
