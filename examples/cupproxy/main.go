// Cupproxy signs the answers of a Nebraska, which does not do so itself, so that clients can demand it
// (omahaclient.WithCUPKeys). It stands in front of Nebraska as a reverse proxy and speaks CUP-ECDSA, as Chromium's update
// servers do (docs/updater/cup.md there). Nothing on Nebraska changes:
//
//	go run ./examples/cupproxy -generate -key 1=cup-1.pem     # once; prints the line for WithCUPKeys
//	go run ./examples/cupproxy -key 1=cup-1.pem -to http://127.0.0.1:8000/v1/update/ -listen :8080
//
// Clients name http://HOST:8080/v1/update/ then, with Nebraska's secret behind it if there is one; a proxy for TLS goes in front.
//
// # What it does
//
//   - POST requests to the update path are forwarded, 64 KiB each at most, as Nebraska has it. Where a client asks for a proof
//     (cup2key in the query) the answer is signed; where it does not, the answer goes as it is, so that a fleet can move step by step.
//   - Everything else is 404 or 405 and never reaches Nebraska: administrators go to it by another way.
//   - A request for a key that is not here, or that is not the one that its hash (cup2hreq) speaks of, is 400, before Nebraska
//     could grant anything to a client that will not believe it.
//   - Only answers with a status of success are signed; of Nebraska's 1 MiB at most, and never compressed.
//
// The proof is in X-Cup-Server-Proof and, for proxies that drop headers they do not know, in a weak ETag. A proxy between here and
// the clients must not change bodies; it may compress them.
//
// # Keys
//
// A key file is PEM with a private key on P-256, as -generate or "openssl ecparam -genkey -name prime256v1" write it. To
// change keys, add the new one with a second -key, ship clients that name both (the new one first), and drop the old one
// when no client names it any more. Who has a key can answer for the server: keep it out of images, backups and repositories.
//
// # Under systemd
//
// /etc/systemd/system/cupproxy.service:
//
//	[Service]
//	LoadCredential=cup-1.pem:/etc/cupproxy/cup-1.pem
//	ExecStart=/usr/local/bin/cupproxy -listen :8080 -to http://127.0.0.1:8000/v1/update/ -key 1=%d/cup-1.pem
//	DynamicUser=yes
//	ProtectSystem=strict
//	Restart=on-failure
//
//	[Install]
//	WantedBy=multi-user.target
//
// Nebraska stores the address that X-Forwarded-For names first. Cupproxy writes the client's there, and drops what came; with
// -trust-forwarded it adds to what came, which is right behind another proxy and nowhere else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cupproxy:", err)
		os.Exit(1)
	}
}

// settings are the flags.
type settings struct {
	listen   string
	to       *url.URL
	keys     []keyFile
	generate bool
	forward  bool // trust X-Forwarded-For
}

func parseFlags(args []string, usage io.Writer) (settings, error) {
	s := settings{}
	flags := flag.NewFlagSet("cupproxy", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.StringVar(&s.listen, "listen", "127.0.0.1:8080", "`address` to listen on")
	to := flags.String("to", "http://127.0.0.1:8000/v1/update/", "Nebraska's update `URL`, without its secret")
	flags.BoolVar(&s.generate, "generate", false, "write a new key to the file of -key, print the line for WithCUPKeys, and end")
	flags.BoolVar(&s.forward, "trust-forwarded", false, "add to X-Forwarded-For instead of writing it anew: behind another proxy only")
	flags.Func("key", "private key: `ID=FILE`, or FILE for the id 1; several times for several keys", func(value string) error {
		k, err := parseKeyFile(value)
		s.keys = append(s.keys, k)
		return err
	})
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	switch {
	case flags.NArg() > 0:
		return s, fmt.Errorf("%q is no flag", flags.Arg(0))
	case len(s.keys) == 0:
		return s, errors.New("there is no -key; -generate -key 1=cup-1.pem makes one")
	case s.generate && len(s.keys) > 1:
		return s, errors.New("-generate wants one -key")
	}
	u, err := url.Parse(*to)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return s, errors.New("-to: want an http or https URL without user and query, such as http://127.0.0.1:8000/v1/update/")
	}
	s.to = u
	return s, nil
}

// run does what the flags say, until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	if s.generate {
		line, err := generate(s.keys[0])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(stdout, line)
		return err
	}
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	keys, err := loadKeys(s.keys, logger)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.listen)
	if err != nil {
		return err
	}
	logger.Info("signing proxy listens", "address", listener.Addr().String(), "to", s.to.Host)
	return serve(ctx, listener, newProxy(s.to, keys, s.forward, logger), logger)
}

// patience is how long answers under way may take once the proxy is told to stop.
const patience = 10 * time.Second

// serve answers until ctx ends.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, logger *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      90 * time.Second, // Nebraska's time is in it
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		stopped <- server.Shutdown(last)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}
