package omahaclient_test

import (
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testserver"
)

const endpoint = "https://updates.example.com/v1/update/"

type badOption struct {
	name     string
	endpoint string
	opt      omahaclient.Option
	option   string // that the message names
	value    string // that the message names; "" where there is none to name
}

func badOptions() []badOption {
	with := func(name, option, value string, opt omahaclient.Option) badOption {
		return badOption{name, endpoint, opt, option, value}
	}
	at := func(name, endpoint, value string) badOption {
		return badOption{name, endpoint, app(appC), "endpoint", value}
	}
	appWith := func(opt omahaclient.AppOption) omahaclient.Option { return omahaclient.WithApp(appB, "1.0.0", opt) }
	long := strings.Repeat("x", 300)
	schedule := omahaclient.WithSchedule
	return []badOption{
		at("endpoint is empty", "", ""),
		at("endpoint is relative", "/v1/update/", "/v1/update/"),
		at("endpoint has no host", "https:///v1/update/", "https:///v1/update/"),
		at("endpoint is of another scheme", "ftp://updates.example.com/", "ftp://updates.example.com/"),
		at("endpoint has a port that there is not", "https://updates.example.com:65536/", "65535"),
		at("endpoint has port 0", "https://updates.example.com:0/", "65535"),
		with("empty app id", "WithApp", `""`, omahaclient.WithApp("", "1.0.0")),
		with("app id with a slash", "WithApp", "a/b", omahaclient.WithApp("a/b", "1.0.0")),
		with("app id of dots", "WithApp", `".."`, omahaclient.WithApp("..", "1.0.0")),
		with("app id with a space", "WithApp", "a b", omahaclient.WithApp("a b", "1.0.0")),
		with("app id too long", "WithApp", "155", omahaclient.WithApp(strings.Repeat("x", 156), "1.0.0")),
		with("app id twice", "WithApp", appA, app(appA)),
		with("app id twice, in another case", "WithApp", strings.ToUpper(appA), app(strings.ToUpper(appA))),
		with("version of four parts", "WithApp", "1.0.0.0", omahaclient.WithApp(appB, "1.0.0.0")),
		with("version of two parts", "WithApp", "1.0", omahaclient.WithApp(appB, "1.0")),
		with("version with a leading zero", "WithApp", "01.0.0", omahaclient.WithApp(appB, "01.0.0")),
		with("version that is a date", "WithApp", "2024-05-01", omahaclient.WithApp(appB, "2024-05-01")),
		with("version that is only a v", "WithApp", `"v"`, omahaclient.WithApp(appB, "v")),
		with("nil app option", "WithApp", appB, appWith(nil)),
		with("channel too long", "WithChannel", long, appWith(omahaclient.WithChannel(long))),
		with("channel with a line break", "WithChannel", `"a\nb"`, appWith(omahaclient.WithChannel("a\nb"))),
		with("payload type", "WithPayloadType", "a b/c", appWith(omahaclient.WithPayloadType("a b/c"))),
		with("payload type that nothing fetches", "WithPayloadType", "application/x-tpye", appWith(omahaclient.WithPayloadType("application/x-tpye; a=b"))),
		with("min age", "WithMinAge", "-1h0m0s", appWith(omahaclient.WithMinAge(-time.Hour))),
		with("nil option", "New", "nil", nil),
		with("empty state dir", "WithStateDir", "empty", omahaclient.WithStateDir("")),
		with("empty machine id", "WithMachineID", `""`, omahaclient.WithMachineID("")),
		with("machine id of 51 characters", "WithMachineID", strings.Repeat("m", 51), omahaclient.WithMachineID(strings.Repeat("m", 51))),
		with("machine id with a space", "WithMachineID", "m 1", omahaclient.WithMachineID("m 1")),
		with("machine alias too long", "WithMachineAlias", long, omahaclient.WithMachineAlias(long)),
		with("machine alias with a control character", "WithMachineAlias", `\x00`, omahaclient.WithMachineAlias("a\x00")),
		with("schedule's First below zero", "WithSchedule", "-1s", schedule(omahaclient.Schedule{FirstMin: -time.Second})),
		with("schedule's Max below Min", "WithSchedule", "2s", schedule(omahaclient.Schedule{Min: 3 * time.Second, Max: 2 * time.Second})),
		with("schedule's Max below the default of Min", "WithSchedule", "10m0s", schedule(omahaclient.Schedule{Max: 10 * time.Minute})),
		with("schedule's FirstMax below FirstMin", "WithSchedule", "7s", schedule(omahaclient.Schedule{FirstMin: 8 * time.Second, FirstMax: 7 * time.Second})),
		with("nil gate", "WithGate", "nil", omahaclient.WithGate(nil)),
		with("no workers", "WithWorkers", "0", omahaclient.WithWorkers(0)),
		with("negative workers", "WithWorkers", "-3", omahaclient.WithWorkers(-3)),
		with("nil fetcher", "WithFetcher", `"binary"`, omahaclient.WithFetcher("binary", nil)),
		with("fetcher without a type", "WithFetcher", `""`, omahaclient.WithFetcher("", fetcher.HTTP{})),
		with("nil HTTP client", "WithHTTPClient", "nil", omahaclient.WithHTTPClient(nil)),
		with("nil authorization", "WithAuthorization", "nil", omahaclient.WithAuthorization(nil)),
		with("nil progress", "WithProgress", "nil", omahaclient.WithProgress(nil)),
	}
}

func TestNew_reportsAnInvalidOption(t *testing.T) {
	for _, tc := range badOptions() {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			c, err := omahaclient.New(tc.endpoint, omahaclient.WithStateDir(dir), app(appA), tc.opt)
			if err == nil {
				c.Close()
			}
			wantErr(t, err, omahaclient.ErrInvalidOption)
			want(t, "mistakes", len(joined(err)), 1)
			for _, word := range []string{tc.option, tc.value} {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not name %s", err, word)
				}
			}
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the state directory was touched: %v", err)
			}
		})
	}
}

func TestNew_reportsEveryMistakeAtOnce(t *testing.T) {
	opts := []omahaclient.Option{app(appA)}
	for _, tc := range badOptions()[4:] {
		opts = append(opts, tc.opt)
	}
	_, err := omahaclient.New("ftp://updates.example.com/", opts...)
	list := joined(err)
	for _, e := range list {
		wantErr(t, e, omahaclient.ErrInvalidOption)
	}
	for _, option := range []string{
		"endpoint", "WithApp", "WithChannel", "WithPayloadType", "WithMinAge", "New", "WithMachineAlias",
		"WithSchedule", "WithGate", "WithWorkers", "WithFetcher", "WithHTTPClient", "WithAuthorization", "WithProgress",
	} {
		if !strings.Contains(err.Error(), option+": ") {
			t.Errorf("nothing about %s in:\n%v", option, err)
		}
	}
	if len(list) < 26 { // where an option is given twice, the last one counts
		t.Errorf("%d mistakes:\n%v", len(list), err)
	}
}

func TestNew_needsAnApp(t *testing.T) {
	_, err := omahaclient.New(endpoint, omahaclient.WithStateDir(t.TempDir()))
	wantErr(t, err, omahaclient.ErrInvalidOption)
	if !strings.Contains(err.Error(), "WithApp") {
		t.Errorf("%q does not name WithApp", err)
	}
}

// A secret in the endpoint shows in no message.
func TestNew_hidesSecrets(t *testing.T) {
	_, err := omahaclient.New("ftp://joe:hunter2@updates.example.com/v1/update/s3cret?token=t0ken", app(appA))
	for _, secret := range []string{"hunter2", "s3cret", "t0ken"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q shows %s", err, secret)
		}
	}
}

func joined(err error) []error {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		return all.Unwrap()
	}
	return nil
}

func TestNew_takes(t *testing.T) {
	for _, tc := range []struct {
		name     string
		endpoint string
		opt      omahaclient.Option
	}{
		{"endpoint without a path", "https://updates.example.com", app(appA)},
		{"endpoint by http, with a port", "http://127.0.0.1:8000/v1/update", app(appA)},
		{"UUID", endpoint, app("e96281a6-d1af-4bde-9a0a-97b76e56dc57")},
		{"UUID in braces", endpoint, app("{e96281a6-d1af-4bde-9a0a-97b76e56dc57}")},
		{"app id of 155 characters", endpoint, app(strings.Repeat("x", 155))},
		{"version with a v", endpoint, omahaclient.WithApp(appA, "v1.2.3")},
		{"version with a pre-release and a build", endpoint, omahaclient.WithApp(appA, "1.2.3-beta.1+linux")},
		{"no version", endpoint, omahaclient.WithApp(appA, "")},
		{"no channel", endpoint, omahaclient.WithApp(appA, "1.0.0")},
		{"channel with a space", endpoint, omahaclient.WithApp(appA, "1.0.0", omahaclient.WithChannel("release candidate"))},
		{"image", endpoint, omahaclient.WithApp(appA, "1.0.0", omahaclient.WithPayloadType("application/vnd.oci.image"))},
		{"machine id of 50 characters, not bytes", endpoint, omahaclient.WithMachineID(strings.Repeat("ü", 50))},
		{"nil logger", endpoint, omahaclient.WithLogger(nil)},
		{"every wait of a nanosecond", endpoint, omahaclient.WithSchedule(omahaclient.Schedule{FirstMin: 1, FirstMax: 1, Min: 1, Max: 1})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			opts := []omahaclient.Option{omahaclient.WithStateDir(t.TempDir()), tc.opt}
			if strings.HasPrefix(tc.name, "nil") || strings.HasPrefix(tc.name, "every") || strings.HasPrefix(tc.name, "machine") {
				opts = append(opts, app(appA))
			}
			c, err := omahaclient.New(tc.endpoint, opts...)
			must(t, err)
			must(t, c.Close())
		})
	}
}

// A leading v is taken, and not sent.
func TestWithApp_leadingV(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(omahaclient.WithApp(appA, "v1.2.3", omahaclient.WithChannel(track)))
		want(t, "version", status(t, c, appA).Version, "1.2.3")
		must(t, c.CheckNow(t.Context()))
		want(t, "version on the wire", w.contacts(appA)[0].Version, "1.2.3")
	})
}

// The version given says what runs and wins over the journal; without one the journal says it, 0.0.0 at first.
func TestWithApp_version(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(appAt(appA, ""))
		want(t, "before the first update", status(t, c, appA).Version, "0.0.0")
		s := w.updates(c)
		o := s.next()
		want(t, "version on the wire", w.checks(appA)[0].Version, "0.0.0")
		must(t, o.Ack(nil))
		must(t, c.Close())
		for _, tc := range []struct{ given, want string }{{"", "2.0.0"}, {"1.0.0", "1.0.0"}, {"5.0.0", "5.0.0"}, {"", "2.0.0"}} {
			c := w.client(appAt(appA, tc.given))
			want(t, "version, given "+tc.given, status(t, c, appA).Version, tc.want)
			must(t, c.Close())
		}
		if len(w.log.lines("level=WARN msg=\"the version given to WithApp is older")) != 1 {
			t.Errorf("one warning is due, for 1.0.0:\n%s", w.log)
		}
	})
}

// Without a channel there is none on the wire; Nebraska refuses that, and the refusal is explained.
func TestWithChannel(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		c := w.client(omahaclient.WithApp(appA, "1.0.0"))
		err := c.CheckNow(t.Context())
		want(t, "track on the wire", w.contacts(appA)[0].Track, "")
		if err == nil || !strings.Contains(err.Error(), "channel") {
			t.Errorf("error %v; want one that speaks of the channel", err)
		}
		must(t, c.Close())
		must(t, w.client(app(appA)).CheckNow(t.Context()))
		want(t, "track on the wire", w.contacts(appA)[1].Track, track)
	})
}

// The payload's type is the server's to say, the address' scheme after that, the app's option next, "binary" at last.
func TestWithPayloadType(t *testing.T) {
	const image = "application/vnd.oci.image"
	file := testserver.File{Name: "app.bin", Content: []byte("x")}
	typed := file
	typed.ContentType = "application/x-special"
	for _, tc := range []struct {
		name    string
		release testserver.Release
		opt     []omahaclient.AppOption
		want    []string
	}{
		{"nothing said", testserver.Release{Files: []testserver.File{file, file}}, nil, []string{"binary", "binary"}},
		{"said by the server", testserver.Release{Files: []testserver.File{typed, file}}, nil, []string{"application/x-special", "binary"}},
		{
			"said by the server and the option", testserver.Release{Files: []testserver.File{typed, file}},
			[]omahaclient.AppOption{omahaclient.WithPayloadType("application/x-mine")}, []string{"application/x-special", "application/x-mine"},
		},
		{
			"an image by the option, with an extra file",
			testserver.Release{Image: "registry.example/ns/app:1.5.0", Files: []testserver.File{{Name: "https://files.example/extra", Content: []byte("x")}}},
			[]omahaclient.AppOption{omahaclient.WithPayloadType(image)}, []string{image, "binary"},
		},
		{"an image by its scheme", testserver.Release{Image: "oci://registry.example/ns/app:1.5.0"}, nil, []string{image}},
		{"an image by Docker's scheme", testserver.Release{Image: "docker://registry.example/ns/app:1.5.0"}, nil, []string{image}},
		{
			"an image by its scheme, and another type by the option", testserver.Release{Image: "OCI://registry.example/ns/app:1.5.0"},
			[]omahaclient.AppOption{omahaclient.WithPayloadType("application/x-mine")}, []string{image},
		},
		{
			"said by the server, and an image by its scheme",
			testserver.Release{Codebases: []string{"oci://registry.example/ns/"}, Files: []testserver.File{typed}}, nil, []string{"application/x-special"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				tc.release.Version = "2.0.0"
				w.group(appA).Publish(tc.release)
				var opts []omahaclient.Option
				for _, mediaType := range []string{"binary", image, "application/x-special", "application/x-mine"} {
					opts = append(opts, omahaclient.WithFetcher(mediaType, fetchedFromMemory()))
				}
				o := w.updates(w.client(append(opts, app(appA, tc.opt...))...)).next()
				var got []string
				for _, p := range o.Payloads {
					got = append(got, p.MediaType)
				}
				want(t, "types", strings.Join(got, " "), strings.Join(tc.want, " "))
			})
		})
	}
}

func TestWithFetcher_replacesOne(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		must(t, w.updates(w.client(app(appA), omahaclient.WithFetcher("Binary; v=1", fetchedFromMemory()))).next().Ack(nil))
		want(t, "downloads", w.Payloads.Stats("").Requests, 0)
	})
}

// The order of options does not matter.
func TestNew_optionsInAnyOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.offering(appA, "2.0.0")
		w.offering(appB, "2.0.0")
		opts := w.options(app(appA), app(appB), omahaclient.WithWorkers(1))
		for i := range opts {
			j := len(opts) - 1 - i
			if i < j {
				opts[i], opts[j] = opts[j], opts[i]
			}
		}
		c, err := omahaclient.New(w.URL(), opts...)
		must(t, err)
		defer c.Close()
		want(t, "first app", c.Status()[0].AppID, appB) // but for the order of apps, which is theirs
		s := w.updates(c)
		must(t, s.next().Ack(nil))
		must(t, s.next().Ack(nil))
		s.stop()
	})
}

// Without WithLogger nothing is logged, not even by the program's default logger.
func TestWithLogger_defaultDiscards(t *testing.T) {
	def, book := slog.Default(), &logbook{}
	slog.SetDefault(slog.New(slog.NewTextHandler(book, nil)))
	defer slog.SetDefault(def)
	inBubble(t, func(t *testing.T, w *world) {
		w.Offline(true)
		hc := &http.Client{Transport: w.Client().Transport}
		c, err := omahaclient.New(w.URL(), app(appA), omahaclient.WithStateDir(w.dir), omahaclient.WithHTTPClient(hc))
		must(t, err)
		s := w.updates(c)
		s.silent(24 * time.Hour)
		s.stop()
		must(t, c.Close())
	})
	want(t, "log", book.String(), "")
}
