package container

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// What the names of images may be (github.com/distribution/reference, grammar of path-component and tag); for repositories
// without their rarer forms.
var (
	repositoryName = regexp.MustCompile(`^[a-z0-9]+([._-][a-z0-9]+)*$`)
	noRepository   = regexp.MustCompile(`[^a-z0-9]+`)
	noTag          = regexp.MustCompile(`[^A-Za-z0-9_.-]`)
)

const (
	maxRepository = 128 // of 255, with what is before
	maxTag        = 128
)

// imageName names the image of a container's version. Tags know less characters than versions.
func imageName(container, version string) string {
	tag := noTag.ReplaceAllString(version, "_")
	if tag == "" || strings.HasPrefix(tag, ".") || strings.HasPrefix(tag, "-") {
		tag = "_" + tag
	}
	return repository(container) + ":" + tag[:min(len(tag), maxTag)]
}

// repository returns the name of a container's images without their tag. Names of containers that no image may have are
// written in another way, and a part of their hash tells them apart.
func repository(container string) string {
	name := container
	if !repositoryName.MatchString(name) || len(name) > maxRepository {
		sum := sha256.Sum256([]byte(container))
		name = strings.Trim(noRepository.ReplaceAllString(strings.ToLower(name), "-"), "-")
		name = strings.Trim(name[:min(len(name), maxRepository)]+"-"+hex.EncodeToString(sum[:4]), "-")
	}
	return "localhost/omahaclient/" + name
}
