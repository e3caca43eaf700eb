package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/cwriter"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/nebraska/omahaclient"
)

// display takes lines of text and the progress of downloads, both from several goroutines. After Close it takes text only.
type display interface {
	io.Writer
	Progress(p omahaclient.Progress)
	Close()
}

// newDisplay draws bars on a terminal and prints lines elsewhere.
func newDisplay(stdout io.Writer) display {
	if f, ok := stdout.(*os.File); ok {
		if width, height, err := cwriter.GetSize(int(f.Fd())); err == nil && barsFit(width, height) {
			return newBars(stdout)
		}
	}
	return &lines{out: stdout, quarter: map[omahaclient.Progress]int64{}}
}

// barsFit tells whether a terminal of that many columns and rows has room for a bar and the text above it. Some say that they have
// neither, or no rows, and nothing that mpb draws is seen there.
func barsFit(columns, rows int) bool { return columns > 0 && rows > 1 }

// key tells payloads apart.
func key(p omahaclient.Progress) omahaclient.Progress {
	return omahaclient.Progress{AppID: p.AppID, Version: p.Version, Payload: p.Payload}
}

// news says what the first progress of a payload means.
func news(p omahaclient.Progress) string {
	if p.Finished && p.Err == nil {
		return fmt.Sprintf("%-18s  %s is on disk already", p.AppID, p.Version)
	}
	return fmt.Sprintf("%-18s  update check: the server grants %s; downloading %s", p.AppID, p.Version, p.Payload)
}

// stopped says why a download did not come to its end.
func stopped(p omahaclient.Progress) string {
	if errors.Is(p.Err, context.Canceled) {
		return fmt.Sprintf("%-18s  download of %s interrupted", p.AppID, p.Payload)
	}
	return fmt.Sprintf("%-18s  download of %s failed: %v", p.AppID, p.Payload, p.Err)
}

// lines prints a line for every quarter of a download.
type lines struct {
	mu      sync.Mutex // guards what follows
	out     io.Writer
	quarter map[omahaclient.Progress]int64 // the last one printed
}

func (l *lines) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(text)
}

// Progress prints a line if there is news.
func (l *lines) Progress(p omahaclient.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	quarter := int64(-1)
	if p.Total > 0 {
		quarter = p.Done * 4 / p.Total
	}
	last, known := l.quarter[key(p)]
	l.quarter[key(p)] = quarter
	if !known {
		fmt.Fprintln(l.out, news(p))
	}
	switch {
	case p.Err != nil:
		fmt.Fprintln(l.out, stopped(p))
	case known && quarter == last, quarter == 0:
	case quarter < 0:
		fmt.Fprintf(l.out, "%-18s  downloading %s: %s so far\n", p.AppID, p.Payload, byteSize(p.Done))
	default:
		fmt.Fprintf(l.out, "%-18s  downloading %s: %3d %% of %s\n", p.AppID, p.Payload, quarter*25, byteSize(p.Total))
	}
}

// Close implements display.
func (l *lines) Close() {}

// bars draws a bar for each download, below the text.
type bars struct {
	mu     sync.Mutex // guards what follows
	out    io.Writer
	drawn  *mpb.Progress
	bars   map[omahaclient.Progress]*mpb.Bar
	closed bool
}

func newBars(out io.Writer, more ...mpb.ContainerOption) *bars {
	return &bars{
		out:   out,
		drawn: mpb.New(append(more, mpb.WithOutput(out))...),
		bars:  map[omahaclient.Progress]*mpb.Bar{},
	}
}

func (b *bars) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return b.out.Write(text)
	}
	return b.drawn.Write(text)
}

// Progress moves the payload's bar.
func (b *bars) Progress(p omahaclient.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	bar := b.bars[key(p)]
	if bar == nil {
		bar = b.drawn.AddBar(0,
			mpb.PrependDecorators(decor.Name(p.AppID+" "+p.Version, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.CountersKibiByte("% .1f of % .1f", decor.WCSyncSpace)))
		b.bars[key(p)] = bar
		fmt.Fprintln(b.drawn, news(p))
	}
	bar.SetTotal(p.Total, false)
	bar.SetCurrent(p.Done)
	switch {
	case p.Finished && p.Err != nil:
		bar.Abort(false)
		fmt.Fprintln(b.drawn, stopped(p))
	case p.Finished:
		bar.SetTotal(p.Done, true)
	}
}

// Close leaves the bars as they stand.
func (b *bars) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.closed = true
	for _, bar := range b.bars {
		bar.Abort(false) // no effect on those that are complete
	}
	b.drawn.Wait()
}

// warnings prints what goes wrong as it happens, for instance that a server does not answer and is asked again.
func warnings(show io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(show, &slog.HandlerOptions{
		Level: slog.LevelWarn,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// watch prints what each app does, or waits for, whenever that changes. The function returned ends it.
func watch(client *omahaclient.Client, show io.Writer) (end func()) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		last := map[string]string{}
		for tick := time.NewTicker(200 * time.Millisecond); ; {
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
			}
			for _, app := range client.Status() {
				line := fmt.Sprintf("%-18s  %s %s %s\n", app.AppID, app.Version, app.Phase, app.Reason)
				if last[app.AppID] != line {
					last[app.AppID] = line
					io.WriteString(show, line)
				}
			}
		}
	})
	return func() { close(done); watching.Wait() }
}

// describe says what an offer is.
func (s settings) describe(offer omahaclient.UpdateOffer) string {
	digest, _ := strings.CutPrefix(offer.Payloads[0].Digest, "sha256:")
	return fmt.Sprintf("%-18s  offer on the channel: %s replaces %s; %d file, verified, SHA-256 %.12s…",
		offer.AppID, offer.Version, offer.CurrentVersion, len(offer.Payloads), digest)
}

// outcome says how its deployment went.
func (s settings) outcome(offer omahaclient.UpdateOffer, err error) string {
	if err != nil {
		return fmt.Sprintf("%-18s  %s could not be deployed, and the server is told so: %v", offer.AppID, offer.Version, err)
	}
	return fmt.Sprintf("%-18s  %s deployed and acknowledged", offer.AppID, offer.Version)
}

func byteSize(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
}
