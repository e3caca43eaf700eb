package omahaclient_test

import (
	"log/slog"
	"strings"
	"sync"
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
