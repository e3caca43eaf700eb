package container_test

import (
	"strings"
	"testing"
)

// Each kind of engine finds in the archive what it looks for, and takes the image's name, whatever the container's is.
func TestLoad(t *testing.T) {
	for kind, like := range map[string]engineKind{"containerd": containerd, "graphdriver": graphdriver} {
		for _, name := range []string{"web", "Web", "my..web", "a___b", "a._b", "web-", "we", "w" + strings.Repeat("_", 200)} {
			for _, version := range []string{"2", "2.0.0-rc.1+build 7", "-2", ".2", "", strings.Repeat("2", 300)} {
				f := newFake(t, "1.44")
				f.like, f.looked = like, heals
				f.first(fakeCreate{}).Name = "/" + name
				s := f.service(t)
				s.Name = name
				if err := s.Apply(t.Context(), offer(layout(t, imageOf("2")), version)); err != nil {
					t.Errorf("%s: container %s, version %s: %v", kind, name, version, err)
				}
			}
		}
	}
}

// Images of containers whose names differ have names that differ.
func TestLoad_namesDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"web", "Web", "my-web", "my..web", "my--web", "my_web", "web-", "web."} {
		f := newFake(t, "1.44")
		f.looked = heals
		f.first(fakeCreate{}).Name = "/" + name
		s := f.service(t)
		s.Name = name
		must(t, s.Apply(t.Context(), offer(layout(t, imageOf("2")), "2")))
		image := f.find(name).Config.Image
		if other, ok := seen[image]; ok {
			t.Errorf("%s and %s: %s", name, other, image)
		}
		seen[image] = name
	}
}
