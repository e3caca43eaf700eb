package fetcher

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// parsePlatform takes OS/ARCHITECTURE[/VARIANT]; "" means this machine's, with linux as the system, which is what images run on.
func parsePlatform(s string) (ocispec.Platform, error) {
	if s == "" {
		p := ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
		if p.Architecture == "arm" {
			p.Variant = builtFor()
		}
		return normal(p), nil
	}
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || strings.Contains(s, "//") || strings.HasPrefix(s, "/") || strings.HasSuffix(s, "/") {
		return ocispec.Platform{}, fmt.Errorf("platform %q is not OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm/v7: correct OCI.Platform", s)
	}
	p := ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return normal(p), nil
}

// builtFor is the ARM version that this program was built for: what runs it runs such images.
func builtFor() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if n, _, _ := strings.Cut(s.Value, ","); s.Key == "GOARM" && n != "" {
				return "v" + n
			}
		}
	}
	return "v7"
}

// normal gives each platform one spelling, containerd's: the OCI image specification 1.1, "Platform Variants", leaves several.
func normal(p ocispec.Platform) ocispec.Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "i386", "i486", "i586", "i686":
		p.Architecture = "386"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	if p.Variant != "" && p.Variant[0] >= '0' && p.Variant[0] <= '9' {
		p.Variant = "v" + p.Variant
	}
	switch {
	case p.Architecture == "arm" && p.Variant == "":
		p.Variant = "v7"
	case p.Architecture == "arm64" && p.Variant == "":
		p.Variant = "v8"
	case p.Architecture == "amd64" && p.Variant == "":
		p.Variant = "v1"
	}
	return p
}

// suits ranks an image for a machine: 0 it does not run there, else the more the better. Of the versions of an architecture (arm/v5
// to v8, amd64/v1 to v4, arm64/v8 and later) a machine runs its own and every lower one.
func suits(image, machine ocispec.Platform) int {
	image = normal(image)
	if image.OS != machine.OS || image.Architecture != machine.Architecture {
		return 0
	}
	if image.Variant == machine.Variant {
		return 1000
	}
	is, ok1 := version(image.Variant)
	can, ok2 := version(machine.Variant)
	if !ok1 || !ok2 || is > can {
		return 0
	}
	return is
}

// version reads v7 as 70 and v8.2 as 82.
func version(variant string) (int, bool) {
	major, minor, _ := strings.Cut(strings.TrimPrefix(variant, "v"), ".")
	if len(major) != 1 || major[0] < '1' || major[0] > '9' || len(minor) > 1 {
		return 0, false
	}
	n := int(major[0]-'0') * 10
	if minor != "" {
		if minor[0] < '0' || minor[0] > '9' {
			return 0, false
		}
		n += int(minor[0] - '0')
	}
	return n, true
}

func platformName(p ocispec.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}
