package omaha

import (
	"cmp"
	"runtime"

	wire "github.com/kinvolk/go-omaha/omaha"
)

// LocalOS describes this machine as servers need it: platform "linux", "mac" or "win" (else GOOS),
// arch "x64", "x86", "arm" or "aarch64" (else GOARCH).
//
// go-omaha sends Go's own "arm64", which Nebraska does not know and takes for amd64: an arm64 machine would be
// offered amd64 payloads.
func LocalOS() OS {
	return OS{Platform: wire.LocalPlatform(), Arch: archName(runtime.GOARCH)}
}

// sentOS fills in what os lacks, and names its architecture as servers need it.
func sentOS(os OS) OS {
	local := LocalOS()
	os.Platform = cmp.Or(os.Platform, local.Platform)
	os.Arch = cmp.Or(os.Arch, local.Arch)
	if os.Arch == "arm64" {
		os.Arch = archName(os.Arch)
	}
	return os
}

func archName(goarch string) string {
	switch goarch {
	case "amd64":
		return "x64"
	case "386":
		return "x86"
	case "arm64":
		return "aarch64"
	default:
		return goarch
	}
}
