package main

import (
	"context"
	"fmt"
	"iter"
	"os"
	"runtime"
	"time"

	"github.com/nebraska/omahaclient/trust"
)

// judge asks the client's own verifier about a statement. Each time it is one that has seen nothing before.
func judge(verifier *trust.Statements, signed trust.Signed, claim trust.Claim) error {
	dir, err := os.MkdirTemp("", "sign-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	claim.Dir = dir
	claim.Signed = func(context.Context) iter.Seq2[trust.Signed, error] {
		return func(yield func(trust.Signed, error) bool) { yield(signed, nil) }
	}
	_, err = verifier.Verify(context.Background(), claim)
	return err
}

// claimFor is what a server offers when it offers just what a statement says.
func claimFor(s trust.Statement, channel string, now time.Time) trust.Claim {
	claim := trust.Claim{AppID: s.App, Channel: channel, Arch: s.Arch, Version: s.Version, Now: now}
	if claim.Arch == trust.AnyArch {
		claim.Arch = runtime.GOARCH
	}
	for _, p := range s.Payloads {
		claimed := trust.Payload{Name: p.Name, Image: p.Image}
		if p.Image {
			claimed.Digest = p.Digest
		}
		claim.Payloads = append(claim.Payloads, claimed)
	}
	return claim
}

// judgeStatement asks for each channel of a statement whether a client that trusts the keys accepts it.
func judgeStatement(keys []string, signed trust.Signed, s trust.Statement, now time.Time) error {
	verifier, err := trust.NewStatements(keys)
	if err != nil {
		return err
	}
	for _, channel := range s.Channels {
		if err := judge(verifier, signed, claimFor(s, channel, now)); err != nil {
			return fmt.Errorf("a client would refuse %s: %w", signed.Where, err)
		}
	}
	return nil
}

// judgeIndex asks about a head of an index.
func judgeIndex(verifier *trust.Statements, signed trust.Signed, head trust.Head, now time.Time) (trust.Head, error) {
	dir, err := os.MkdirTemp("", "sign-")
	if err != nil {
		return trust.Head{}, err
	}
	defer os.RemoveAll(dir)
	claim := trust.Claim{AppID: head.App, Channel: head.Channel, Arch: head.Arch, Now: now, Dir: dir}
	if claim.Arch == trust.AnyArch {
		claim.Arch = runtime.GOARCH
	}
	return verifier.Index(claim, signed)
}
