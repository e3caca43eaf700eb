package trust_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"log"
	"os"
	"time"

	"aead.dev/minisign"

	"github.com/nebraska/omahaclient/trust"
)

// A publisher signs a release: document and signatures are put beside the payload, under its name with the two suffixes.
func ExampleSign() {
	public, private, err := minisign.GenerateKey(nil) // once; the private key stays where releases are made
	if err != nil {
		log.Fatal(err)
	}
	payload := []byte("what app.tar.gz holds")
	digest := sha256.Sum256(payload)
	now := time.Now()
	document, err := trust.Statement{
		App:      "com.example.app",
		Channels: []string{"stable"},
		Arch:     "amd64",
		Version:  "1.2.3",
		Sequence: 17, // one more than that of the release before
		Issued:   now,
		Expires:  now.AddDate(0, 3, 0),
		Payloads: []trust.Payload{{Name: "app.tar.gz", Size: int64(len(payload)), Digest: "sha256:" + hex.EncodeToString(digest[:])}},
	}.Marshal()
	if err != nil {
		log.Fatal(err)
	}
	signatures := trust.Sign(document, private)

	fmt.Println("app.tar.gz"+trust.ReleaseSuffix, len(document) > 0)
	fmt.Println("app.tar.gz"+trust.ReleaseSignatureSuffix, minisign.Verify(public, document, signatures))
	// Output:
	// app.tar.gz.release.json true
	// app.tar.gz.release.json.minisig true
}

// A client asks whether an offer is the publisher's. The library does this for apps with omahaclient.WithTrustedKeys.
func ExampleStatements_Verify() {
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		log.Fatal(err)
	}
	found := exampleRelease(private)
	verifier, err := trust.NewStatements([]string{public.String()})
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "trust")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	release, err := verifier.Verify(context.Background(), trust.Claim{
		AppID: "com.example.app", Channel: "stable", Arch: "amd64", Version: "1.2.3",
		Payloads: []trust.Payload{{Name: "app.tar.gz"}, {Name: "extra.sh"}},
		Now:      time.Now(),
		Dir:      dir,
		Signed: func(context.Context) iter.Seq2[trust.Signed, error] {
			return func(yield func(trust.Signed, error) bool) { yield(found, nil) }
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range release.Payloads {
		fmt.Printf("%s %d %.15s\n", p.Name, p.Size, p.Digest) // no digest: not the publisher's, and not to be fetched
	}
	// Output:
	// app.tar.gz 4096 sha256:ad7facb2
	// extra.sh 0
}

// A head in an index tells clients what is newest, whatever their update server says.
func ExampleStatements_Index() {
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		log.Fatal(err)
	}
	document, err := trust.Index{
		Sequence: 301, Issued: time.Now(), Expires: time.Now().AddDate(0, 0, 7),
		Heads: []trust.Head{{App: "com.example.app", Channel: "stable", Arch: trust.AnyArch, Version: "1.2.3", Sequence: 17}},
	}.Marshal()
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := trust.NewStatements([]string{public.String()})
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "trust")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	head, err := verifier.Index(
		trust.Claim{AppID: "com.example.app", Channel: "stable", Arch: "arm64", Now: time.Now(), Dir: dir},
		trust.Signed{Where: "https://heads.example/index.json", Document: document, Signatures: trust.Sign(document, private)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(head.Version, head.Sequence)
	// Output: 1.2.3 17
}

func exampleRelease(key minisign.PrivateKey) trust.Signed {
	digest := sha256.Sum256(make([]byte, 4096))
	document, err := trust.Statement{
		App: "com.example.app", Channels: []string{"stable"}, Arch: "amd64", Version: "1.2.3", Sequence: 17,
		Issued: time.Now(), Expires: time.Now().AddDate(0, 3, 0),
		Payloads: []trust.Payload{{Name: "app.tar.gz", Size: 4096, Digest: "sha256:" + hex.EncodeToString(digest[:])}},
	}.Marshal()
	if err != nil {
		log.Fatal(err)
	}
	return trust.Signed{Where: "app.tar.gz.release.json", Document: document, Signatures: trust.Sign(document, key)}
}
