package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"time"
)

// settings are what the flags say, or the demo.
type settings struct {
	server, app, version, channel string
	state                         string
	timeout                       time.Duration
	command                       []string
}

var errUsage = errors.New("wrong arguments")

func parse(args []string, output io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("once", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.Usage = func() {
		fmt.Fprintln(output, "usage: once -server URL -app ID [flags] COMMAND [ARGUMENT...]   (see the flags)")
		fmt.Fprintln(output, "       once                                                     (a demo)")
		flags.PrintDefaults()
	}
	flags.StringVar(&s.server, "server", "", "`URL` of the Omaha server; without it a server comes along, and two rounds are shown")
	flags.StringVar(&s.app, "app", "", "`ID` of the app")
	flags.StringVar(&s.version, "version", "", "`version` that runs now; by default what was acknowledged last")
	flags.StringVar(&s.channel, "channel", "stable", "channel (track) that the app follows")
	flags.StringVar(&s.state, "state", "", "state `directory`; by default $STATE_DIRECTORY, or omahaclient/ID below ~/.local/state")
	flags.DurationVar(&s.timeout, "timeout", 15*time.Minute, "give up for this time; what is unfinished goes on in the next round")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return s, err
	} else if err != nil {
		return s, fmt.Errorf("%w: %w", errUsage, err)
	}
	s.command = flags.Args()
	return s, s.check()
}

func (s settings) check() error {
	switch {
	case s.server == "" && (s.app != "" || len(s.command) > 0):
		return fmt.Errorf("%w: -app and a command need -server", errUsage)
	case s.server == "":
		return nil
	case s.app == "":
		return fmt.Errorf("%w: -server needs -app", errUsage)
	case len(s.command) == 0:
		return fmt.Errorf("%w: name the command that installs the payload, after the flags", errUsage)
	case s.timeout <= 0:
		return fmt.Errorf("%w: -timeout must be above 0", errUsage)
	}
	return nil
}

func helpIsNoError(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}
