package tuf_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/trust"
	"github.com/nebraska/omahaclient/trust/tuf"
)

// A program that takes what its TUF repository lists, and nothing else. Compile root.json in (package embed) rather than reading it.
func Example() {
	root, err := os.ReadFile("root.json")
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := tuf.New(tuf.Config{Root: root, MetadataURL: "https://updates.example.com/tuf/metadata"})
	if err != nil {
		log.Fatal(err)
	}
	client, err := omahaclient.New("https://updates.example.com/v1/update/",
		omahaclient.WithApp("io.example.App", "1.0.0", omahaclient.WithChannel("stable"), omahaclient.WithVerifier(verifier)))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	for offer := range client.Updates(context.Background()) {
		fmt.Println(offer.Version, "is in", offer.Payloads[0].Path)
		offer.Ack(nil)
	}
}

// The publisher's side: a release of a file and an image, as targets. Then sign the targets, and new snapshot and timestamp metadata, with
// go-tuf or any other TUF tool, and upload them.
func Example_publish() {
	targets := metadata.Targets(time.Now().AddDate(0, 3, 0))
	release := trust.Claim{AppID: "io.example.App", Channel: "stable", Arch: "amd64", Version: "2.0.0"}
	list := func(p trust.Payload, content []byte, custom string) {
		target, err := metadata.TargetFile().FromBytes(tuf.TargetPath(release, p), content)
		if err != nil {
			log.Fatal(err)
		}
		if raw := json.RawMessage(custom); custom != "" {
			target.Custom = &raw
		}
		targets.Signed.Targets[target.Path] = target
		fmt.Println(target.Path)
	}
	list(trust.Payload{Name: "app.bin"}, []byte("the program"), "")
	manifest := []byte(`{"schemaVersion": 2}`) // of registry.example/team/app:2.0.0, which has this digest:
	const digest = "sha256:c5d902c53b4afcf32ad746fd9d696431650d3fbe8f7b10ca10519543fefd772c"
	list(trust.Payload{Name: "app", Image: true}, manifest, `{"image": "`+digest+`"}`)
	list(trust.Payload{Name: tuf.ReleaseName}, nil, `{"payloads": ["app.bin", "app"]}`)
	// Output:
	// io.example.App/stable/amd64/2.0.0/app.bin
	// io.example.App/stable/amd64/2.0.0/app
	// io.example.App/stable/amd64/2.0.0/release.json
}
