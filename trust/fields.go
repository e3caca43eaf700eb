package trust

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	digestPrefix = "sha256:"
	timeLayout   = "2006-01-02T15:04:05Z" // RFC 3339 in UTC, whole seconds
	maxText      = 255                    // bytes
	maxChannels  = 64
)

func malformed(what string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrMalformed, what, err)
}

func missing(field string) error { return fmt.Errorf("%s is missing or empty", field) }

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func checkText(field, s string) error {
	if s == "" {
		return missing(field)
	}
	return checkCharacters(field, s)
}

// checkCharacters refuses what looks like something else, or would break a line of a log.
func checkCharacters(field, s string) error {
	if len(s) > maxText {
		return fmt.Errorf("%s has %d bytes, more than %d", field, len(s), maxText)
	}
	for _, r := range s {
		if r == utf8.RuneError || unicode.IsControl(r) {
			return fmt.Errorf("%s %q has a control character or is no UTF-8", field, s)
		}
	}
	return nil
}

func checkChannels(channels []string) error {
	if len(channels) > maxChannels {
		return fmt.Errorf("%d channels are more than %d", len(channels), maxChannels)
	}
	for _, channel := range channels {
		if err := checkCharacters("channel", channel); err != nil {
			return err
		}
	}
	return nil
}

func checkArch(arch string) error {
	plain := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' }
	if arch == "" || len(arch) > 32 || strings.TrimFunc(arch, plain) != "" {
		return fmt.Errorf("arch %.64q is neither GOARCH's name of an architecture (amd64, arm64, …) nor %q", arch, AnyArch)
	}
	return nil
}

func checkSequence(n uint64) error {
	if n < 1 || n > MaxSequence {
		return fmt.Errorf("sequence %d is not from 1 to 2^53-1", n)
	}
	return nil
}

// checkKeys checks the keys that a document lists: lines of base64. Nil stands for no list.
func checkKeys(texts []string) error {
	if texts == nil {
		return nil
	}
	if len(texts) > MaxKeys {
		return fmt.Errorf("%d keys are more than %d", len(texts), MaxKeys)
	}
	keys, err := parseKeys(texts)
	if err != nil {
		return err
	}
	for i, key := range keys {
		if key.String() != texts[i] {
			return fmt.Errorf("key %d is not written as %s", i+1, key)
		}
	}
	return nil
}

// cutDigest returns the digits of a digest.
func cutDigest(digest string) (string, bool) {
	digits, ok := strings.CutPrefix(digest, digestPrefix)
	if !ok || len(digits) != 64 || strings.ToLower(digits) != digits {
		return "", false
	}
	_, err := hex.DecodeString(digits)
	return digits, err == nil
}

func formatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

func parseTimes(issued, expires string) (i, e time.Time, err error) {
	i, err = parseTime("issued", issued)
	if err == nil {
		e, err = parseTime("expires", expires)
	}
	if err == nil && !e.After(i) {
		err = errors.New("it expires before it is issued")
	}
	return i, e, err
}

func parseTime(field, s string) (time.Time, error) {
	t, err := time.Parse(timeLayout, s)
	if err != nil || t.Format(timeLayout) != s || t.Year() < 1970 {
		return time.Time{}, fmt.Errorf("%s %.64q is not a time like %s", field, s, timeLayout)
	}
	return t, nil
}

// foldApp brings an app id into the form in which two are compared: Omaha takes ids that differ in case only for one.
func foldApp(id string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, id)
}
