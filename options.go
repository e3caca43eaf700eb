package omahaclient

import (
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/omaha"
	"github.com/nebraska/omahaclient/trust"
)

// Option configures a Client. Where one is given twice, the last one counts; each WithApp adds an app. Their order shows in Status, and the
// first app names the state directory, unless WithStateDir does.
type Option func(*config)

// AppOption configures one app of a Client.
type AppOption func(*appConfig)

type config struct {
	endpoint    string
	apps        []appConfig
	stateDir    string
	machineID   string
	alias       string
	schedule    Schedule
	gate        func(appID string, now time.Time) (open bool, next time.Time)
	workers     int
	fetchers    fetcher.Registry
	httpClient  *http.Client
	authorize   func(*http.Request) error
	cupKeys     []omaha.CUPKey
	logger      *slog.Logger
	progress    func(Progress)
	staleness   time.Duration
	staleGiven  bool
	alarm       func(Staleness)
	built       time.Time
	boot        string // id of this boot; "" asks the system (tests make boots of their own)
	aliasGiven  bool
	idGiven     bool
	given       []problem
	dirGiven    bool
	workerGiven bool
}

type appConfig struct {
	id, version   string
	channel       string
	payloadType   string
	downgrades    bool
	reboot        bool
	manualConfirm bool
	minAge        time.Duration

	keys         []string
	keysGiven    bool
	minSequence  uint64
	verifier     trust.Verifier
	verifierSet  bool
	statements   *trust.Statements // the verifier, where it is of WithTrustedKeys
	releaseIndex string
	indexSet     bool
	indexKeys    []string
	heads        *trust.Statements // verifies the index
}

// problem is what an option can tell to be wrong by itself.
type problem struct{ option, what string }

// WithApp adds an app; ids are unique in a Client. The version says what runs now and always wins over the journal;
// "" means what was last acknowledged here ("0.0.0" before the first update): right for everything but self-updates.
// An id is a UUID or a dotted product id of at most 155 characters; a version is semantic (1.2.3), a leading v is dropped.
// At least one app is required.
func WithApp(id, version string, opts ...AppOption) Option {
	return func(c *config) {
		app := appConfig{id: id, version: version}
		for _, opt := range opts {
			if opt == nil {
				c.badf("WithApp", "app %q has a nil option; leave it out", id)
				continue
			}
			opt(&app)
		}
		c.apps = append(c.apps, app)
	}
}

// WithChannel names the channel (Omaha's track) that the app follows, in exact case. Nebraska requires one and explains
// its refusal. Defaults to none.
func WithChannel(name string) AppOption { return func(a *appConfig) { a.channel = name } }

// WithPayloadType says what the app's payload is where the server does not: a media type such as
// "application/vnd.oci.image". Defaults to "binary". A type that is neither of these needs WithFetcher.
func WithPayloadType(mediaType string) AppOption {
	return func(a *appConfig) { a.payloadType = mediaType }
}

// WithDowngrades takes an offered version that is lower than the current one. Defaults to refusing it (code 36).
func WithDowngrades() AppOption { return func(a *appConfig) { a.downgrades = true } }

// WithReboot says that UpdateOffer.Installed takes effect at the next boot. Defaults to the next start of the program.
func WithReboot() AppOption { return func(a *appConfig) { a.reboot = true } }

// WithManualConfirm leaves it to the program to report success after a restart, by Client.Confirm. Defaults to reporting
// it as soon as the new version runs.
func WithManualConfirm() AppOption { return func(a *appConfig) { a.manualConfirm = true } }

// WithMinAge takes a release only after it has been offered for d; until then the grant is given back and the app only
// pings. Defaults to 0: at once.
func WithMinAge(d time.Duration) AppOption { return func(a *appConfig) { a.minAge = d } }

// WithTrustedKeys takes nothing but what the holder of one of these keys has released for the app, its channel and this
// machine's architecture: each release needs a statement that is signed with minisign, and is checked against it, whatever the server, a mirror or the network
// says. An offer without one is refused (code 18). Keys are minisign public keys: the line that begins with RW, or the whole
// file. A statement signed by an old and a new key can replace the keys (rotation). docs/trust.md has the format; examples/sign makes keys and
// statements. Defaults to none: then payloads are checked against the hashes that the server names.
func WithTrustedKeys(keys ...string) AppOption {
	return func(a *appConfig) { a.keys, a.keysGiven = keys, true }
}

// WithMinSequence refuses statements with a lower sequence as a rollback, even if the state directory was lost: compile in that of the
// release which the program belongs to. A build with new keys knows no sequence that only former keys signed. It needs WithTrustedKeys.
// Defaults to 0: any, until one was seen.
func WithMinSequence(n uint64) AppOption { return func(a *appConfig) { a.minSequence = n } }

// WithVerifier lets v decide what may be installed, in place of the statements of WithTrustedKeys: package trust/tuf for The
// Update Framework, or one of your own. Defaults to none.
func WithVerifier(v trust.Verifier) AppOption {
	return func(a *appConfig) { a.verifier, a.verifierSet = v, true }
}

// WithReleaseIndex names a signed file, on any host, that says which release of the app is the newest (docs/trust.md; examples/sign makes
// it): a server that keeps a release back is noticed so (WithMaxStaleness). Its signature is at the same URL with .minisig at the end of the
// path. It is read after each scheduled contact with the server, as payloads are fetched. keys are the minisign public keys that it may be
// signed with, and default to those of WithTrustedKeys; one of the two is needed. A host that keeps silent holds up no offer, but the end of a
// round of UpdatesOnce, for two minutes at most. Defaults to none.
func WithReleaseIndex(url string, keys ...string) AppOption {
	return func(a *appConfig) { a.releaseIndex, a.indexKeys, a.indexSet = url, keys, true }
}

// WithStateDir names the directory for the journal, the machine id and fetched payloads. A folder that is new or empty is made
// private to its owner, what is written always is; one Client at a time uses it. Defaults to the first entry of
// $STATE_DIRECTORY; else $XDG_STATE_HOME, ~/.local/state, or /var/lib for root without a home, plus
// omahaclient/<id of the first app>.
func WithStateDir(dir string) Option {
	return func(c *config) { c.stateDir, c.dirGiven = dir, true }
}

// WithMachineID sets the id under which the server knows this machine: 1 to 50 printable characters without spaces. No
// two machines may share one. Defaults to a random UUID that is kept in the state directory.
func WithMachineID(id string) Option { return func(c *config) { c.machineID, c.idGiven = id, true } }

// WithMachineAlias sets the name that Nebraska shows for this machine, at most 255 characters; "" sends none. Defaults to
// the host name.
func WithMachineAlias(name string) Option {
	return func(c *config) { c.alias, c.aliasGiven = name, true }
}

// WithSchedule says when to check. Defaults to the first check after 5 to 15 minutes, then every 45 to 90 minutes.
func WithSchedule(s Schedule) Option { return func(c *config) { c.schedule = s } }

// WithGate asks fn before each scheduled check whether updates may be taken now. While it answers closed, the app only
// pings, so that nothing is granted; next says when to ask again, the zero time: at the next scheduled contact. fn is
// called by one goroutine at a time for each app, and must neither block nor call Close. Defaults to always open.
func WithGate(fn func(appID string, now time.Time) (open bool, next time.Time)) Option {
	return func(c *config) {
		if c.gate = fn; fn == nil {
			c.badf("WithGate", "the function is nil; leave the option out for a gate that is always open")
		}
	}
}

// WithWorkers sets how many payloads are fetched at the same time, at least 1. Defaults to 4.
func WithWorkers(n int) Option { return func(c *config) { c.workers, c.workerGiven = n, true } }

// WithFetcher registers a fetcher for payloads of a media type, or replaces one of ours ("binary": fetcher.HTTP). It must
// be safe for concurrent use.
func WithFetcher(mediaType string, f fetcher.Fetcher) Option {
	return func(c *config) {
		switch base, _, err := mime.ParseMediaType(mediaType); {
		case f == nil:
			c.badf("WithFetcher", "the fetcher for %q is nil", mediaType)
		case err != nil:
			c.badf("WithFetcher", "%q is no media type: %v", mediaType, err)
		default:
			c.fetchers[base] = f
		}
	}
}

// WithHTTPClient sets the client for requests to the Omaha server, and to nothing else: TLS, client certificates,
// proxies. It is not changed. Defaults to one of our own with TLS 1.2 at least and proxies from the environment.
func WithHTTPClient(hc *http.Client) Option {
	return func(c *config) {
		if c.httpClient = hc; hc == nil {
			c.badf("WithHTTPClient", "the client is nil; leave the option out for the default")
		}
	}
}

// WithAuthorization calls fn on each request to the Omaha server, and on no other, to add credentials. An error of fn
// fails the request. fn must be safe for concurrent use. Defaults to none.
func WithAuthorization(fn func(*http.Request) error) Option {
	return func(c *config) {
		if c.authorize = fn; fn == nil {
			c.badf("WithAuthorization", "the function is nil; leave the option out to send no credentials")
		}
	}
}

// WithLogger sets the log. nil, and the default, discard it.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.logger = l } }

// WithProgress calls fn as bytes of a payload arrive: for each payload in order, at most 10 times a second, the first
// and the last time always. Calls for different apps may overlap. fn must neither block nor call Close. Defaults to none.
func WithProgress(fn func(Progress)) Option {
	return func(c *config) {
		if c.progress = fn; fn == nil {
			c.badf("WithProgress", "the function is nil; leave the option out")
		}
	}
}

// WithMaxStaleness raises an alarm when an app has for d had no authentic answer from the server (a signed one, with WithCUPKeys), no fresh release
// index, or has not got a release that the index names: the server does not offer it, or what it offers fails here or is refused. While the program
// itself waits (a closed gate, an offer or a restart that is pending, Defer) the last of these raises none; nor does WithMinAge until d and that
// age have passed, whatever ripens. An older release in an open offer silences it for a newer one, too. The alarm is in Status and the
// log, and alarm is called, where it is not nil: when it begins and each time another d has passed (by each process anew), and by one
// goroutine at a time; it must neither block nor call Close. The machine's clock counts, and so does the time in which it was off or asleep. d must
// cover the rollout of a release to all machines: days rather than hours. Defaults to no alarms.
func WithMaxStaleness(d time.Duration, alarm func(Staleness)) Option {
	return func(c *config) { c.staleness, c.alarm, c.staleGiven = d, alarm, true }
}

// WithBuildTime says when this program was built: a machine whose clock is behind (no battery, no network time yet) takes
// nothing that had expired by then. Defaults to the time of the commit, where the build records it (go build in a clone does).
func WithBuildTime(t time.Time) Option { return func(c *config) { c.built = t } }

func (c *config) badf(option, format string, args ...any) {
	c.given = append(c.given, problem{option, fmt.Sprintf(format, args...)})
}

// newConfig applies the options and validates all of them at once.
func newConfig(endpoint string, opts []Option) (*config, error) {
	c := &config{endpoint: endpoint, fetchers: fetcher.Registry{}, workers: defaultWorkers}
	for _, opt := range opts {
		if opt == nil {
			c.badf("New", "an option is nil; leave it out")
			continue
		}
		opt(c)
	}
	c.validate()
	var errs []error
	for _, p := range c.given {
		errs = append(errs, fmt.Errorf("%w: %s: %s", ErrInvalidOption, p.option, p.what))
	}
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	return c, errors.Join(errs...)
}

const (
	defaultWorkers  = 4
	maxAppID        = 155 // Omaha ServerProtocolV3, "appid"
	maxMachineID    = 50  // Nebraska's column
	maxMachineAlias = 255
	maxChannel      = 255
)

func (c *config) validate() {
	if err := (&omaha.Client{Endpoint: c.endpoint}).Validate(); err != nil {
		c.badf("endpoint", "%v", err)
	}
	if len(c.apps) == 0 {
		c.badf("WithApp", "there is no app; name at least one")
	}
	seen := map[string]bool{}
	for i := range c.apps {
		app := &c.apps[i]
		if key := strings.Trim(appKey(app.id), "{}"); seen[key] {
			c.badf("WithApp", "app id %q is given twice (ids do not tell upper from lower case, nor do braces count)", app.id)
		} else {
			seen[key] = true
		}
		c.validateApp(app)
	}
	if c.idGiven && !plain(c.machineID, maxMachineID, false) {
		c.badf("WithMachineID", "%q is not 1 to %d printable characters without spaces", c.machineID, maxMachineID)
	}
	if c.aliasGiven && c.alias != "" && !plain(c.alias, maxMachineAlias, true) {
		c.badf("WithMachineAlias", "%q is not at most %d printable characters", c.alias, maxMachineAlias)
	}
	if c.dirGiven && c.stateDir == "" {
		c.badf("WithStateDir", "the directory is empty; leave the option out for the default")
	}
	if c.workerGiven && c.workers < 1 {
		c.badf("WithWorkers", "%d is below 1", c.workers)
	}
	if c.staleGiven && c.staleness <= 0 {
		c.badf("WithMaxStaleness", "%v is not above 0; leave the option out for no alarms", c.staleness)
	}
	for _, what := range c.schedule.complete() {
		c.badf("WithSchedule", "%s", what)
	}
}

func (c *config) validateApp(app *appConfig) {
	if !appID().MatchString(app.id) || len(app.id) > maxAppID || strings.Trim(app.id, ".") == "" {
		c.badf("WithApp", "app id %q is not a UUID or dotted product id of at most %d letters, digits and . _ - { }", app.id, maxAppID)
	}
	if app.version != "" {
		v, err := omaha.NormalizeVersion(app.version)
		if err != nil {
			c.badf("WithApp", "version %q of app %q is not a semantic version such as 1.2.3 (servers refuse others): %v", app.version, app.id, err)
		}
		app.version = v
	}
	if app.channel != "" && !plain(app.channel, maxChannel, true) {
		c.badf("WithChannel", "%q of app %q is not at most %d printable characters", app.channel, app.id, maxChannel)
	}
	if app.payloadType != "" {
		if _, _, err := mime.ParseMediaType(app.payloadType); err != nil {
			c.badf("WithPayloadType", "%q of app %q is no media type: %v", app.payloadType, app.id, err)
		} else if base := fetcher.BaseType(app.payloadType); c.fetchers[base] == nil && base != typeBinary && base != typeImage {
			c.badf("WithPayloadType", "nothing fetches %q of app %q: name a fetcher for it by WithFetcher, or %q or %q", app.payloadType, app.id, typeBinary, typeImage)
		}
	}
	if app.minAge < 0 {
		c.badf("WithMinAge", "%v of app %q is negative", app.minAge, app.id)
	}
	c.validateTrust(app)
}

func (c *config) validateTrust(app *appConfig) {
	switch {
	case app.verifierSet && app.verifier == nil:
		c.badf("WithVerifier", "the verifier of app %q is nil; leave the option out to take whatever the server offers", app.id)
	case app.keysGiven && app.verifier != nil:
		c.badf("WithVerifier", "app %q has WithTrustedKeys as well; choose one", app.id)
	case app.keysGiven:
		var err error
		if app.statements, err = trust.NewStatements(app.keys, trust.WithMinimumSequence(app.minSequence), trust.WithLogger(c.logger)); err != nil {
			c.badf("WithTrustedKeys", "app %q: %v", app.id, err)
			return
		}
		app.verifier = app.statements
	case app.minSequence > 0:
		c.badf("WithMinSequence", "app %q has no WithTrustedKeys, and only signed statements have a sequence", app.id)
	}
	c.validateIndex(app)
}

func (c *config) validateIndex(app *appConfig) {
	if !app.indexSet {
		return
	}
	if u, err := url.Parse(app.releaseIndex); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		c.badf("WithReleaseIndex", "app %q: it must be an absolute http or https URL", app.id) // not shown: it may hold a secret
	}
	switch app.heads = app.statements; {
	case len(app.indexKeys) > 0:
		var err error
		if app.heads, err = trust.NewStatements(app.indexKeys, trust.WithLogger(c.logger)); err != nil {
			c.badf("WithReleaseIndex", "app %q: %v", app.id, err)
		}
	case !app.keysGiven:
		c.badf("WithReleaseIndex", "app %q has no keys to check it with: name some, or give WithTrustedKeys", app.id)
	}
}

func appID() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._{}-]+$`) }

// appKey is how the journal and our maps know an app: Omaha's ids do not tell upper from lower case.
func appKey(id string) string { return strings.ToLower(id) }

// plain reports whether s is 1 to limit printable characters, spaces among them if they are allowed.
func plain(s string, limit int, spaces bool) bool {
	if s == "" || utf8.RuneCountInString(s) > limit {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return !unicode.IsPrint(r) || r == unicode.ReplacementChar || !spaces && unicode.IsSpace(r)
	}) < 0
}
