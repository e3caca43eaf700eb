package main

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/nebraska/omahaclient/trust"
)

// file is one of a release's files.
type file struct {
	name         string
	size         int64
	sha1, sha256 string // as Nebraska wants the first: base64; the second in hexadecimal digits
}

// payloadsOf reads what a release consists of: each file once, in small pieces.
func payloadsOf(names []string, image string) ([]file, []trust.Payload, error) {
	var files []file
	var payloads []trust.Payload
	if image != "" {
		repository, digest, ok := strings.Cut(image, "@")
		if !ok || repository == "" {
			return nil, nil, fmt.Errorf("%w: -image %q names no digest: registry.example/ns/app@sha256:… (a tag can be moved)", errUsage, image)
		}
		payloads = append(payloads, trust.Payload{Name: repository, Image: true, Digest: digest})
	}
	for _, name := range names {
		f, err := measure(name)
		if err != nil {
			return nil, nil, err
		}
		if f.size == 0 {
			return nil, nil, fmt.Errorf("%s is empty", name)
		}
		files = append(files, f)
		payloads = append(payloads, trust.Payload{Name: f.name, Size: f.size, Digest: "sha256:" + f.sha256})
	}
	return files, payloads, nil
}

// measure reads a file from one end to the other.
func measure(name string) (file, error) {
	f, err := os.Open(name)
	if err != nil {
		return file{}, err
	}
	defer f.Close()
	strong, weak := sha256.New(), sha1.New()
	size, err := io.Copy(io.MultiWriter(strong, weak), f)
	if err != nil {
		return file{}, fmt.Errorf("read %s: %w", name, err)
	}
	return file{
		name: filepath.Base(name), size: size,
		sha1: base64.StdEncoding.EncodeToString(weak.Sum(nil)), sha256: hex.EncodeToString(strong.Sum(nil)),
	}, nil
}
