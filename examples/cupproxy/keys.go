package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/nebraska/omahaclient/omaha"
)

// keyFile says where a private key is, and the id under which clients ask for it.
type keyFile struct{ id, path string }

func parseKeyFile(value string) (keyFile, error) {
	k := keyFile{id: "1", path: value}
	if id, path, found := strings.Cut(value, "="); found {
		k = keyFile{id, path}
	}
	if k.id == "" || k.path == "" {
		return k, errors.New("want ID=FILE")
	}
	return k, nil
}

// generate writes a new private key where no file is yet, and returns the line for WithCUPKeys.
func generate(k keyFile) (line string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	if line, err = publicLine(k.id, key); err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(k.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err // it never replaces a key
	}
	err = errors.Join(pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der}), f.Sync(), f.Close())
	return line, err
}

// publicLine is the public half as WithCUPKeys takes it.
func publicLine(id string, key *ecdsa.PrivateKey) (string, error) {
	line := omaha.CUPKey{ID: id, Key: &key.PublicKey}.String()
	if _, err := omaha.ParseCUPKey(line); err != nil {
		return "", fmt.Errorf("-key %s: want an id of 1 to 32 letters, digits, - and _, and a key on P-256", id)
	}
	return line, nil
}

// loadKeys reads the keys, and logs their public halves.
func loadKeys(files []keyFile, logger *slog.Logger) (map[string]*ecdsa.PrivateKey, error) {
	keys := map[string]*ecdsa.PrivateKey{}
	for _, k := range files {
		if keys[k.id] != nil {
			return nil, fmt.Errorf("-key %s: the id is given twice", k.id)
		}
		key, err := readKey(k.path)
		if err != nil {
			return nil, err
		}
		line, err := publicLine(k.id, key)
		if err != nil {
			return nil, err
		}
		keys[k.id] = key
		logger.Info("signing with", "public_key", line)
	}
	return keys, nil
}

// readKey reads a private key from a PEM file, in PKCS #8 or as openssl's ecparam writes it.
func readKey(path string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "EC PRIVATE KEY":
			key, err := x509.ParseECPrivateKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("key %s: %w", path, err)
			}
			return key, nil
		case "PRIVATE KEY":
			parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("key %s: %w", path, err)
			}
			if key, ok := parsed.(*ecdsa.PrivateKey); ok {
				return key, nil
			}
			return nil, fmt.Errorf("key %s: a %T; want one for ECDSA on P-256", path, parsed)
		}
	}
	return nil, fmt.Errorf("key %s: there is no PEM block with a private key (-generate writes one)", path)
}
