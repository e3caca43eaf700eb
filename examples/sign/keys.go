package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"aead.dev/minisign"

	"github.com/nebraska/omahaclient/trust"
)

const (
	passwordVariable = "SIGN_PASSWORD"
	maxKeyFile       = 4 << 10 // bytes
)

// keygen makes a pair of keys.
func keygen(t *tool, flags *flag.FlagSet, args []string) error {
	var secrets secretFlags
	secrets.declarePassword(flags)
	open := flags.Bool("no-password", false, "do not encrypt the secret key: for tests, or where what stores it encrypts it")
	if err := parse(flags, args); err != nil {
		return err
	}
	if flags.NArg() != 1 || flags.Arg(0) == "" {
		return fmt.Errorf("%w: give one name; NAME.key and NAME.pub are made", errUsage)
	}
	name := flags.Arg(0)
	for _, file := range []string{name + ".key", name + ".pub"} {
		if _, err := os.Lstat(file); err == nil {
			return fmt.Errorf("%s exists, and keys are never overwritten: choose another name", file)
		}
	}
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		return err
	}
	text, err := private.MarshalText()
	if err != nil {
		return err
	}
	if !*open {
		password, err := secrets.newPassword(t)
		if err != nil {
			return err
		}
		if text, err = t.encrypt(password, private); err != nil {
			return fmt.Errorf("encrypt the key: %w", err)
		}
	}
	if err := create(name+".key", append(text, '\n'), 0o600); err != nil {
		return err
	}
	comment := fmt.Sprintf("untrusted comment: minisign public key %016X\n", public.ID())
	if err := create(name+".pub", []byte(comment+public.String()+"\n"), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(t.out, "%s.key: keep it secret, and keep a copy where a fire does not reach it\n", name)
	fmt.Fprintf(t.out, "%s.pub: for everybody; in the programs that are to be updated:\n\n", name)
	fmt.Fprintf(t.out, "    omahaclient.WithTrustedKeys(%q)\n", public.String())
	return nil
}

// secretFlags name secret keys and where their passwords are.
type secretFlags struct {
	keys     list
	password string // file
}

func (s *secretFlags) declare(flags *flag.FlagSet) {
	flags.Var(&s.keys, "key", "`file` of a secret key that signs; may be given several times, and then each one signs")
	s.declarePassword(flags)
}

func (s *secretFlags) declarePassword(flags *flag.FlagSet) {
	flags.StringVar(&s.password, "password-file", "",
		"`file` with the password (- is the standard input): one line for all keys, or one for each; without it $"+passwordVariable)
}

// passwords returns those that were given, none included.
func (s *secretFlags) passwords(t *tool) ([]string, error) {
	text := t.getenv(passwordVariable)
	switch s.password {
	case "":
	case "-":
		b, err := io.ReadAll(io.LimitReader(t.in, maxKeyFile))
		if err != nil {
			return nil, fmt.Errorf("read the password: %w", err)
		}
		text = string(b)
	default:
		b, err := read(s.password, maxKeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the password: %w", err)
		}
		text = string(b)
	}
	if text == "" {
		return nil, nil
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	return lines, nil
}

// newPassword returns the one for a new key.
func (s *secretFlags) newPassword(t *tool) (string, error) {
	passwords, err := s.passwords(t)
	switch {
	case err != nil:
		return "", err
	case len(passwords) == 0 || passwords[0] == "":
		return "", fmt.Errorf("%w: a new key needs a password: in $%s (read -rs %s && export %s), or by -password-file", errUsage,
			passwordVariable, passwordVariable, passwordVariable)
	case len(passwords) > 1:
		return "", fmt.Errorf("%w: a new key has one password, and these are %d lines", errUsage, len(passwords))
	}
	return passwords[0], nil
}

// load reads the secret keys.
func (s *secretFlags) load(t *tool) ([]minisign.PrivateKey, error) {
	if len(s.keys) == 0 || len(s.keys) > trust.MaxSignatures {
		return nil, fmt.Errorf("%w: name 1 to %d secret keys with -key", errUsage, trust.MaxSignatures)
	}
	passwords, err := s.passwords(t)
	if err != nil {
		return nil, err
	}
	var keys []minisign.PrivateKey
	encrypted := 0
	for _, name := range s.keys {
		text, err := read(name, maxKeyFile)
		if err != nil {
			return nil, fmt.Errorf("secret key: %w", err)
		}
		password := ""
		if minisign.IsEncrypted(text) {
			if password, err = choose(passwords, encrypted); err != nil {
				return nil, fmt.Errorf("secret key %s: %w", name, err)
			}
			encrypted++
		}
		key, err := decode(text, password)
		if err != nil {
			return nil, fmt.Errorf("secret key %s: %w", name, err)
		}
		if slices.ContainsFunc(keys, func(k minisign.PrivateKey) bool { return k.Equal(key) }) {
			return nil, fmt.Errorf("%w: secret key %s is named twice", errUsage, name)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// choose returns the password for the i-th encrypted key.
func choose(passwords []string, i int) (string, error) {
	switch {
	case len(passwords) == 1:
		return passwords[0], nil
	case i < len(passwords):
		return passwords[i], nil
	default:
		return "", fmt.Errorf("%w: it is encrypted: its password goes into $%s, or a file for -password-file", errUsage, passwordVariable)
	}
}

// decode never says what is in a key file.
func decode(text []byte, password string) (minisign.PrivateKey, error) {
	if minisign.IsEncrypted(text) {
		key, err := minisign.DecryptKey(password, text)
		if err != nil {
			return key, errors.New("wrong password, or a damaged file")
		}
		return key, nil
	}
	var key minisign.PrivateKey
	if key.UnmarshalText(text) != nil {
		return key, errors.New("this is no secret key of minisign")
	}
	return key, nil
}

// publicText is a key's line of base64.
func publicText(key minisign.PrivateKey) string {
	public, _ := key.Public().(minisign.PublicKey)
	return public.String()
}

func publicTexts(keys []minisign.PrivateKey) []string {
	var texts []string
	for _, key := range keys {
		texts = append(texts, publicText(key))
	}
	return texts
}

// readPublic returns keys by their files or their lines.
func readPublic(names []string) ([]string, error) {
	var keys []string
	for _, name := range names {
		var key minisign.PublicKey
		if key.UnmarshalText([]byte(name)) != nil {
			text, err := read(name, maxKeyFile)
			if err != nil {
				return nil, fmt.Errorf("public key: neither a line that begins with RW nor a file: %w", err)
			}
			if key.UnmarshalText(text) != nil {
				return nil, fmt.Errorf("public key: %s is no public key of minisign (NAME.pub)", name)
			}
		}
		keys = append(keys, key.String())
	}
	return keys, nil
}
