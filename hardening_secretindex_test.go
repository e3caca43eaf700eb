package omahaclient_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/nebraska/omahaclient"
)

// The address of a release index may hold credentials too, and its host may show them.
func TestSecrets_whileTheReleaseIndexFails(t *testing.T) {
	v := commit(t)
	v.world.group(appA)
	user := url.UserPassword(v.secrets["index-user"], v.secrets["index-password"]).String()
	query := "/index.json?sig=" + url.QueryEscape(v.secrets["index-query"])
	keys := omahaclient.WithTrustedKeys(newPublisher(t).public)
	alarms := make(chan omahaclient.Staleness, 100)
	v.world.group(appB)
	v.open(app(appB, keys, omahaclient.WithReleaseIndex("http://"+user+"@"+v.files.host()+query)),
		omahaclient.WithMaxStaleness(1, func(s omahaclient.Staleness) {
			v.in("an alarm", fmt.Sprintf("%+v", s))
			select {
			case alarms <- s:
			default:
			}
		}))
	s := v.world.updates(v.client)
	answers := append(malformed(), echo(200), echo(401), echo(404), echo(500), echo(302, "Location", "ftp://SHOWN"), echo(200, "Content-Encoding", "SHOWN"),
		words(func(w http.ResponseWriter, word string) { fmt.Fprintf(w, `{"omaha-index":%q}`, word) }),
		words(func(w http.ResponseWriter, word string) { io.WriteString(w, "untrusted comment: "+word+"\n"+word+"\n") }))
	for _, answer := range answers {
		v.files.turn(answer)
		before := v.files.count()
		v.world.wait("the index is asked for", func() bool { return v.files.count() > before+1 || v.client.CheckNow(t.Context()) != nil })
		v.look()
	}
	<-alarms
	s.stop()
	if !strings.Contains(v.files.seen.String(), url.QueryEscape(v.secrets["index-query"])) {
		t.Error("the index's host did not see the secret: this test cannot fail")
	}
	v.end()
}

// What New refuses is shown without what may be secret in it.
func TestSecrets_inWhatNewRefuses(t *testing.T) {
	v := commit(t)
	secret := v.secrets["password"]
	keys := omahaclient.WithTrustedKeys(newPublisher(t).public)
	for _, address := range []string{
		"http://u:" + secret + "@[bad/?sig=" + secret, "ftp://u:" + url.QueryEscape(secret) + "@h.example/?sig=" + secret, "http://u:" + url.QueryEscape(secret) + "@/x?" + secret,
		"http://h.example:x" + url.QueryEscape(secret) + "/", "http://u:" + url.QueryEscape(secret) + "@h.example:99999999/?" + secret + "\x7f", "//u:" + url.QueryEscape(secret) + "@h/",
	} {
		for _, index := range []string{address, "https://h.example/index.json"} {
			c, err := omahaclient.New(address, app(appA, keys, omahaclient.WithReleaseIndex(index)), omahaclient.WithStateDir(t.TempDir()))
			if err == nil {
				must(t, c.Close())
				continue
			}
			v.in("an error of New", err.Error())
		}
		c, err := omahaclient.New("https://h.example/", app(appA, keys, omahaclient.WithReleaseIndex(address)), omahaclient.WithStateDir(t.TempDir()))
		if err == nil {
			must(t, c.Close())
			continue
		}
		v.in("an error of New", err.Error())
	}
}
