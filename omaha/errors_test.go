package omaha_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient/omaha"
)

func asAnswer(t *testing.T, err error) *omaha.AnswerError {
	t.Helper()
	var answer *omaha.AnswerError
	if !errors.As(err, &answer) {
		t.Fatalf("%v (%T) is no AnswerError", err, err)
	}
	return answer
}

// saysAll wants a message to have these words: messages are for people, and these are what people need.
func saysAll(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

func saysNone(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, word := range words {
		if strings.Contains(err.Error(), word) {
			t.Errorf("%q says %q", err, word)
		}
	}
}

type coded int

func (c coded) Error() string { return "coded" }
func (c coded) ExitCode() int { return int(c) }

func TestCodeOf(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want omaha.ExitCode
	}{
		{"nil", nil, omaha.ExitSuccess},
		{"any", errors.New("x"), omaha.ExitError},
		{"answer", &omaha.AnswerError{Code: 2503, Err: omaha.ErrNotOmaha}, 2503},
		{"invalid", &omaha.InvalidError{}, omaha.ExitResponseInvalid},
		{"status", &omaha.StatusError{}, omaha.ExitOmahaRequest},
		{"missing app", omaha.ErrMissingApp, omaha.ExitResponseInvalid},
		{"too large", omaha.ErrTooLarge, omaha.ExitResponseInvalid},
		{"empty", omaha.ErrEmptyResponse, omaha.ExitEmptyResponse},
		{"not omaha", omaha.ErrNotOmaha, omaha.ExitResponseXML},
		{"with a code of its own", coded(77), 77},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := omaha.CodeOf(tt.err); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if tt.err == nil {
				return
			}
			if got := omaha.CodeOf(fmt.Errorf("wrapped: %w", tt.err)); got != tt.want {
				t.Errorf("wrapped: got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestExitCode_String(t *testing.T) {
	for code, want := range map[omaha.ExitCode]string{
		omaha.ExitHash:           "wrong payload hash (10)",
		omaha.ExitHTTPBase + 503: "server answered Service Unavailable (2503)",
		777:                      "code 777",
		-1:                       "code -1",
	} {
		if got := code.String(); got != want {
			t.Errorf("%d: got %q, want %q", int(code), got, want)
		}
	}
	named := []omaha.ExitCode{0, 1, 2, 3, 5, 9, 10, 11, 12, 18, 30, 31, 34, 36, 40, 44}
	for _, code := range named {
		if strings.HasPrefix(code.String(), "code ") {
			t.Errorf("%d has no name", int(code))
		}
	}
}

func TestStatusError(t *testing.T) {
	type kind struct{ temporary, inProgress, checkOnly bool }
	policy := kind{temporary: true, checkOnly: true}
	for _, tt := range []struct {
		status, update string
		want           kind
		says           string
	}{
		{"error-updatesDisabled", "error-internal", policy, "updates disabled for this group"},
		{"error-maxUpdatesPerPeriodLimitReached", "error-internal", policy, "this period"},
		{"error-maxConcurrentUpdatesLimitReached", "error-internal", policy, "as many machines"},
		{"error-maxTimedOutUpdatesLimitReached", "error-internal", policy, "did not finish in time"},
		{"error-updateInProgressOnInstance", "error-internal", kind{inProgress: true, checkOnly: true}, "middle of an update"},
		{"error-failedToRetrieveUpdatePackageInfo", "error-internal", kind{}, `no app "io.example.App" with a channel "beta" for architecture "aarch64"`},
		{"error-unknownApplicationOrGroup", "", kind{}, "check all three"},
		{"error-unknownApplication", "", kind{}, "check all three"},
		{"error-noPackageFound", "error-internal", kind{}, `channel "beta" has no package`},
		{"error-instanceRegistrationFailed", "error-internal", kind{}, "MAJOR.MINOR.PATCH"},
		{"error-couldNotCheckUpdatesStats", "error-internal", kind{}, "server's log"},
		{"error-invalidAppId", "", kind{}, "app id is malformed"},
		{"error-invalidVersion", "", kind{}, "version is malformed"},
		{"error-restricted", "", kind{}, "administrator"},
		{"restricted", "", kind{}, "administrator"},
		{"error-internal", "", kind{}, "server's log"},
		{"ok", "error-osnotsupported", kind{checkOnly: true}, "error-osnotsupported"},
		{"ok", "error-unsupportedProtocol", kind{checkOnly: true}, "protocol 3.0"},
		{"ok", "error-pluginRestrictedHost", kind{checkOnly: true}, "this host"},
		{"ok", "error-hash", kind{checkOnly: true}, "no valid hash"},
		{"ok", "", kind{checkOnly: true}, "no status"},
		{"error-of\x1b[31mthe future", "", kind{}, "does not know"},
	} {
		t.Run(tt.status+"/"+tt.update, func(t *testing.T) {
			e := &omaha.StatusError{AppID: "io.example.App", Status: tt.status, UpdateStatus: tt.update, Channel: "beta", Arch: "aarch64"}
			if got := (kind{e.Temporary(), e.InProgress(), e.CheckOnly()}); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			saysAll(t, e, "io.example.App", tt.says)
			if e.Error() != `app "io.example.App": `+e.Reason() {
				t.Errorf("reason %q in %q", e.Reason(), e)
			}
			saysNone(t, e, "\x1b")
		})
	}
}
