package trust

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"aead.dev/minisign"
)

const (
	maxKeyText     = 4 << 10 // bytes; a public key's file has about 110
	secretKeyBytes = 158
)

// parseKeys reads public keys, and refuses none, two that are the same, and what is no public key.
func parseKeys(texts []string) ([]minisign.PublicKey, error) {
	if len(texts) == 0 {
		return nil, errors.New("no key at all: name the publisher's minisign public key")
	}
	keys := make([]minisign.PublicKey, 0, len(texts))
	for i, text := range texts {
		key, err := parseKey(text)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		if slices.ContainsFunc(keys, func(k minisign.PublicKey) bool { return k.Equal(key) }) {
			return nil, fmt.Errorf("key %d: %s is there twice", i+1, key)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// parseKey reads a public key: its line of base64, or the whole file with its comment. Errors never show the text: it may be a secret.
func parseKey(text string) (minisign.PublicKey, error) {
	var key minisign.PublicKey
	if len(text) > maxKeyText {
		return key, fmt.Errorf("%d bytes are no minisign public key", len(text))
	}
	line := strings.TrimSpace(text)
	if comment, rest, ok := strings.Cut(line, "\n"); ok && strings.HasPrefix(comment, "untrusted comment:") {
		line = strings.TrimSpace(rest)
	}
	raw, err := base64.StdEncoding.DecodeString(line)
	switch {
	case line == "":
		return key, errors.New("it is empty")
	case err == nil && len(raw) == secretKeyBytes:
		return key, errors.New("this is a secret key: give the public one (the .pub file), and make a new pair if this one has been shown to others")
	case strings.ContainsAny(line, "\r\n") || err != nil || key.UnmarshalText([]byte(line)) != nil:
		return key, errors.New("it is no minisign public key: give the line of the .pub file that begins with RW, or the whole file")
	}
	return key, nil
}

// plainKeys returns the lines of base64 of keys that may be given as files.
func plainKeys(texts []string) []string {
	var plain []string
	for _, text := range texts {
		if key, err := parseKey(text); err == nil {
			text = key.String()
		}
		plain = append(plain, text)
	}
	return plain
}

// sorted returns the lines of a set of keys, whatever order they were named in.
func sorted(keys []minisign.PublicKey) []string {
	texts := make([]string, 0, len(keys))
	for _, key := range keys {
		texts = append(texts, key.String())
	}
	slices.Sort(texts)
	return texts
}

// shortKeys names keys by their ids, as minisign does in comments.
func shortKeys(keys []minisign.PublicKey) string {
	ids := make([]string, 0, len(keys))
	for _, key := range keys {
		ids = append(ids, fmt.Sprintf("%016X", key.ID()))
	}
	slices.Sort(ids)
	return strings.Join(ids, ", ")
}
