package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/cwriter"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/nebraska/omahaclient"
)

// display takes lines of text and the progress of pulls, both from several goroutines. After Close it takes text only.
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
	return &lines{out: stdout, quarter: map[string]int64{}}
}

// barsFit tells whether a terminal of that many columns and rows has room for a bar and the text above it. Some say that they have
// neither, or no rows, and nothing that mpb draws is seen there.
func barsFit(columns, rows int) bool { return columns > 0 && rows > 1 }

// key tells pulls apart.
func key(p omahaclient.Progress) string { return p.AppID + " " + p.Version }

// lines prints a line for every quarter of a pull.
type lines struct {
	mu      sync.Mutex // guards what follows
	out     io.Writer
	quarter map[string]int64 // the last one printed
}

func (l *lines) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(text)
}

func (l *lines) Progress(p omahaclient.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.Err != nil {
		fmt.Fprintf(l.out, "%s: pull failed: %v\n", key(p), p.Err)
		return
	}
	if p.Total == 0 {
		return // its manifests are on the way
	}
	quarter := p.Done * 4 / p.Total
	if last, known := l.quarter[key(p)]; known && last == quarter {
		return
	}
	l.quarter[key(p)] = quarter
	fmt.Fprintf(l.out, "%s: %3d %% of %s\n", key(p), quarter*25, byteSize(p.Total))
}

func (l *lines) Close() {}

// bars draws a bar for each pull, below the text.
type bars struct {
	mu     sync.Mutex // guards what follows
	out    io.Writer
	drawn  *mpb.Progress
	bars   map[string]*mpb.Bar
	closed bool
}

func newBars(out io.Writer, more ...mpb.ContainerOption) *bars {
	return &bars{out: out, drawn: mpb.New(append(more, mpb.WithOutput(out))...), bars: map[string]*mpb.Bar{}}
}

func (b *bars) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return b.out.Write(text)
	}
	return b.drawn.Write(text)
}

func (b *bars) Progress(p omahaclient.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	bar := b.bars[key(p)]
	if bar == nil || bar.Aborted() { // new, or tried again
		bar = b.drawn.AddBar(0,
			mpb.PrependDecorators(decor.Name(key(p), decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.CountersKibiByte("% .1f of % .1f", decor.WCSyncSpace)))
		b.bars[key(p)] = bar
	}
	bar.SetTotal(p.Total, false)
	bar.SetCurrent(p.Done)
	switch {
	case p.Finished && p.Err != nil:
		bar.Abort(false)
		fmt.Fprintf(b.drawn, "%s: pull failed: %v\n", key(p), p.Err)
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
