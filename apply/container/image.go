package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nebraska/omahaclient/fetcher"
)

// load gives the engine the image, and returns the name that it has there.
func (e *engine) load(ctx context.Context, payload fetcher.Payload, version string) (string, error) {
	name := imageName(e.s.Name, version)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(e.times.create, func() { cancel(fmt.Errorf("the engine does not go on within %v", e.times.create)) })
	defer idle.Stop()
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() { // ends with r
		err := archive(awake{w, func() { idle.Reset(e.times.create) }}, payload, name)
		w.CloseWithError(err)
		written <- err
	}()
	result, err := e.ImageLoad(ctx, r)
	if err == nil {
		err = loaded(result)
	}
	r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	if werr := <-written; werr != nil && !errors.Is(werr, io.ErrClosedPipe) {
		return "", werr
	}
	if err != nil && ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", err
	}
	if _, err := e.image(ctx, name); err != nil {
		return "", fmt.Errorf("the engine has taken it, but does not know it: %w", err)
	}
	return name, nil
}

// loaded reads what the engine says about a load.
func loaded(result io.ReadCloser) error {
	defer result.Close()
	for d := json.NewDecoder(result); ; {
		var line struct {
			Error string `json:"error"`
		}
		switch err := d.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the engine's answer: %w", err)
		case line.Error != "":
			return errors.New(line.Error)
		}
	}
}

// awake is a writer that tells of each write.
type awake struct {
	io.Writer

	wrote func()
}

func (a awake) Write(p []byte) (int, error) {
	n, err := a.Writer.Write(p)
	a.wrote()
	return n, err
}
