package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// settings are what the flags say, or the demo.
type settings struct {
	server, channel, token string
	apps                   []app
	dir                    string // for state and installed files
	watch                  bool   // print what the client waits for, and its warnings

	size, rate int // of the demo's payloads: bytes, bytes a second
}

type app struct{ id, version string }

const tokenVariable = "OMAHA_TOKEN"

func parse(args []string, output io.Writer) (settings, error) {
	s := settings{token: os.Getenv(tokenVariable), watch: true}
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&s.server, "server", "", "`URL` of an Omaha server; without it a server comes along")
	flags.StringVar(&s.channel, "channel", "stable", "channel (track) that the apps follow on -server")
	flags.Func("app", "`ID[=VERSION]` of an app and what runs of it now; without a version: what was acknowledged last. May be repeated",
		func(value string) error {
			id, version, _ := strings.Cut(value, "=")
			s.apps = append(s.apps, app{id, version})
			return nil
		})
	flags.Func("token", "bearer `TOKEN` for -server; better in the variable "+tokenVariable+", which other users do not see",
		func(value string) error { s.token = value; return nil })
	flags.StringVar(&s.dir, "dir", "", "`directory` for state and installed files; by default omahaclient-quickstart in your cache directory, "+
		"without -server a temporary one")
	flags.IntVar(&s.size, "size", 6<<20, "the demo: `bytes` of the larger payload")
	flags.IntVar(&s.rate, "rate", 2<<20, "the demo: speed of each download in `bytes` a second; 0 is full speed")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	return s, s.complete(flags)
}

// complete checks the flags against each other and fills in what depends on them.
func (s *settings) complete(flags *flag.FlagSet) error {
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case s.server == "" && len(s.apps) > 0:
		return errors.New("-app needs -server: the demo has apps of its own")
	case s.server != "" && len(s.apps) == 0:
		return errors.New("-server needs at least one -app ID=VERSION")
	case s.size < 1 || s.rate < 0:
		return errors.New("-size must be above 0, -rate not below")
	case s.server == "":
		return nil
	}
	if s.dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("no place for state and installed files, name one with -dir: %w", err)
		}
		s.dir = filepath.Join(cache, "omahaclient-quickstart")
	}
	return os.MkdirAll(s.dir, 0o700)
}

func helpIsNoError(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}
