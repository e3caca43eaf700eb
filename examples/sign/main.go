// Sign is a publisher's tool: it makes minisign keys, signs releases and release indexes for omahaclient.WithTrustedKeys and
// WithReleaseIndex, and says whether a client would accept them. docs/publishing.md walks through a whole release, docs/trust.md has the
// format of what is signed.
//
//	sign keygen  NAME                    a key: NAME.key and NAME.pub
//	sign release FLAGS FILE...           a statement about files, or about a container image
//	sign index   FLAGS STATEMENT...      the newest releases of any number of apps, in one file
//	sign rotate  FLAGS DOCUMENT          a statement, or an index, that replaces the keys which clients trust
//	sign verify  FLAGS DOCUMENT          would a client accept this?
//	sign attach  STATEMENT               commands that attach a statement to its image
//
// "sign COMMAND -h" lists the flags of a command.
//
// # Keys
//
// Secret keys are minisign's own: encrypted with a password (scrypt), readable by their owner alone, and used by minisign as well as by
// this program. The password is never asked for on the terminal, where it would be seen, nor taken from a flag, where other users would see
// it. It comes from the environment variable SIGN_PASSWORD,
//
//	read -rs SIGN_PASSWORD && export SIGN_PASSWORD
//
// or from the file that -password-file names, - being the standard input: a line for each encrypted key in the order
// of the flags, or one line for all. An existing key is never overwritten.
//
// # Exit codes
//
//	0  done; accepted
//	1  refused, or failed
//	2  wrong arguments
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"aead.dev/minisign"
)

// tool is the program without what is the process's own.
type tool struct {
	in      io.Reader
	out     io.Writer
	getenv  func(string) string
	now     time.Time // when documents are issued, and judged
	encrypt func(password string, key minisign.PrivateKey) ([]byte, error)
}

var errUsage = errors.New("wrong arguments")

// command is one of the program's commands.
type command struct {
	name, args, help string
	run              func(t *tool, flags *flag.FlagSet, args []string) error
}

func commands() []command {
	return []command{
		{"keygen", "NAME", "makes a key: NAME.key, which stays secret, and NAME.pub", keygen},
		{"release", "[FILE...]", "signs a statement about the files, or the container image, of one release", release},
		{"index", "STATEMENT...", "signs an index: the newest releases of any number of apps", index},
		{"rotate", "DOCUMENT", "signs a statement, or an index, again, so that it replaces the keys which clients trust", rotate},
		{"verify", "DOCUMENT", "says whether a client would accept a statement and the files beside it, or an index", verify},
		{"attach", "STATEMENT", "prints the commands that attach a statement to its container image", attach},
	}
}

func (t *tool) run(args []string) error {
	if len(args) == 0 {
		t.usage()
		return fmt.Errorf("%w: name a command", errUsage)
	}
	switch args[0] {
	case "-h", "-help", "--help", "help":
		t.usage()
		return nil
	}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		flags := flag.NewFlagSet("sign "+c.name, flag.ContinueOnError)
		flags.SetOutput(t.out)
		flags.Usage = func() {
			fmt.Fprintf(t.out, "usage: sign %s [flags] %s\n\n%s %s.\n\n", c.name, c.args, c.name, c.help)
			flags.PrintDefaults()
		}
		if err := c.run(t, flags, args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		return nil
	}
	t.usage()
	return fmt.Errorf("%w: there is no command %q", errUsage, args[0])
}

func (t *tool) usage() {
	fmt.Fprint(t.out, "usage: sign COMMAND [flags] [arguments]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(t.out, "  %-8s %s\n", c.name, c.help)
	}
	fmt.Fprint(t.out, "\nsign COMMAND -h lists the flags of a command.\n")
}

// parse reads the flags of a command. Flags end where the first argument begins.
func parse(flags *flag.FlagSet, args []string) error {
	err := flags.Parse(args)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return err
	}
	return fmt.Errorf("%w: %w", errUsage, err)
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return fmt.Sprint(*l) }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func main() {
	t := &tool{in: os.Stdin, out: os.Stdout, getenv: os.Getenv, now: time.Now(), encrypt: minisign.EncryptKey}
	err := t.run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "sign:", err)
	}
	os.Exit(exitCode(err))
}

// exitCode is what a script sees.
func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		return 2
	default:
		return 1
	}
}
