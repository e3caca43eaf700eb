package omahaclient_test

import (
	"bytes"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/fetcher"
	"github.com/nebraska/omahaclient/internal/testserver"
	"github.com/nebraska/omahaclient/trust"
)

// BenchmarkVouch tells what trusted keys cost: a check with its offer, fetch and verdict, side by side without keys and with a statement beside
// the payload. A statement that is remembered is read from the disk; a new one takes two small requests, a signature and a durable write. The bytes of a
// payload cost the same: their SHA-256 is computed anyway, and SHA-1 is not, where a statement has the SHA-256.
func BenchmarkVouch(b *testing.B) {
	for _, size := range []struct {
		name  string
		bytes int
	}{{"1KiB", 1 << 10}, {"64MiB", 64 << 20}} {
		payload := bytes.Repeat([]byte("0123456789abcdef"), size.bytes/16)
		for _, keys := range []bool{false, true} {
			name := size.name + "/sha256-of-the-server"
			if keys {
				name = size.name + "/statement"
			}
			b.Run(name, func(b *testing.B) { benchmarkVouch(b, payload, keys) })
		}
	}
}

func benchmarkVouch(b *testing.B, payload []byte, keys bool) {
	server := testserver.New(testserver.WithLog(0))
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	key := newPublisher(&testing.T{})
	group := server.AddGroup(appA, track, testserver.AnyArch, testserver.Policy{})
	file := testserver.File{Name: "app.bin", Content: payload, SHA1: testserver.SHA1Base64(payload), SHA256: testserver.SHA256Hex(payload)}
	listed := []trust.Payload{filePayload("app.bin", payload)}
	opts := []omahaclient.AppOption{omahaclient.WithChannel(track)}
	if keys {
		file.SHA256 = testserver.None
		opts = append(opts, omahaclient.WithTrustedKeys(key.public))
	}
	client, err := omahaclient.New(server.URL(), omahaclient.WithApp(appA, "", opts...), omahaclient.WithStateDir(b.TempDir()),
		omahaclient.WithHTTPClient(server.Client()), omahaclient.WithFetcher("binary", fetcher.HTTP{Client: server.Client()}),
		omahaclient.WithLogger(slog.New(slog.DiscardHandler)),
		omahaclient.WithSchedule(omahaclient.Schedule{FirstMin: 1, FirstMax: 1, Min: time.Millisecond, Max: time.Millisecond}))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	offers := client.Updates(b.Context())
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		n++
		version := "1.0." + strconv.FormatUint(n, 10)
		if keys {
			doc, err := key.statement(appA, version, n, func(s *trust.Statement) { s.Payloads = listed }).Marshal()
			if err != nil {
				b.Fatal(err)
			}
			at := fileOf(appA, version) + trust.ReleaseSuffix
			server.Payloads.Put(at, doc)
			server.Payloads.Put(at+".minisig", trust.Sign(doc, key.secret))
		}
		group.Publish(testserver.Release{Version: version, Files: []testserver.File{file}})
		if err := (<-offers).Ack(nil); err != nil {
			b.Fatal(err)
		}
		server.Payloads.Remove(fileOf(appA, version))
	}
}
