package omahaclient_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nebraska/omahaclient/internal/testserver"
)

// simBook keeps what programs log.
type simBook struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (b *simBook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

func (b *simBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// with returns the lines that contain text.
func (b *simBook) with(text string) (found []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.text.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// simContact is an app's part in a request.
type simContact struct {
	testserver.AppRequest
	at     time.Time
	answer string
	seen   bool // by the server
}

// contacts are those about the usual app that reached the server or a fault in front of it, from since on.
func (m *simMachine) contacts(since time.Time) []simContact {
	return m.contactsOf(simApp, since)
}

func (m *simMachine) contactsOf(id string, since time.Time) []simContact {
	var list []simContact
	for _, r := range m.world.Requests() {
		for _, a := range r.Apps {
			if strings.EqualFold(a.ID, id) && a.MachineID == m.id && !r.Time.Before(since) {
				list = append(list, simContact{a, r.Time, string(r.Answer), !r.Unseen})
			}
		}
	}
	return list
}

// String is what was sent, in the order in which the server looks at it: "3/0:36 ping check".
func (c simContact) String() string {
	var parts []string
	for _, e := range c.Events {
		parts = append(parts, simEvent(e))
	}
	if c.Ping {
		parts = append(parts, "ping")
	}
	if c.Check {
		parts = append(parts, "check")
	}
	return strings.Join(parts, " ")
}

func simEvent(e testserver.Event) string {
	text := fmt.Sprintf("%d/%d", e.Type, e.Result)
	if e.Result == 0 {
		text += fmt.Sprintf(":%d", e.ErrorCode)
	}
	return text
}

func simWords(contacts []simContact) []string {
	var words []string
	for _, c := range contacts {
		words = append(words, c.String())
	}
	return words
}

// simChecks are the contacts that ask for an update.
func simChecks(contacts []simContact) []simContact {
	return slices.DeleteFunc(slices.Clone(contacts), func(c simContact) bool { return !c.Check })
}

// simEvents are the events in the order of their arrival.
func simEvents(contacts []simContact) []string {
	var list []string
	for _, c := range contacts {
		for _, e := range c.Events {
			list = append(list, simEvent(e))
		}
	}
	return list
}

// simFirst are the first n words, or what there is of them.
func simFirst(n int, words []string) []string { return words[:min(n, len(words))] }

// simHistory is what the server wrote down about an instance: "granted, downloading, error 9".
func simHistory(i testserver.Instance) string {
	var steps []string
	for _, e := range i.History {
		step := string(e.Status)
		if e.Status == testserver.Error {
			step += fmt.Sprintf(" %d", e.ErrorCode)
		}
		steps = append(steps, step)
	}
	return strings.Join(steps, ", ")
}
