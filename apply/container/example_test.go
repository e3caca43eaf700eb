package container_test

import (
	"context"
	"fmt"

	"github.com/nebraska/omahaclient"
	"github.com/nebraska/omahaclient/apply"
	"github.com/nebraska/omahaclient/apply/container"
)

// One program keeps an executable, a tree of files and a container up to date.
func Example() {
	serve := func(ctx context.Context, client *omahaclient.Client) error {
		err := apply.Serve(ctx, client, apply.Mux{
			"io.example.agent":  apply.Binary{Path: "/usr/local/bin/agent", Probe: apply.Exec("agent", "--self-test")},
			"io.example.assets": apply.Archive{Dir: "/srv/assets", Keep: 3},
			"io.example.web":    container.Service{Name: "web"},
		})
		return err
	}
	client, err := omahaclient.New("https://updates.example.com/v1/update/",
		omahaclient.WithApp("io.example.agent", "", omahaclient.WithChannel("stable")),
		omahaclient.WithApp("io.example.assets", "", omahaclient.WithChannel("stable")),
		omahaclient.WithApp("io.example.web", "", omahaclient.WithChannel("stable"), omahaclient.WithPayloadType("application/vnd.oci.image")),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	if err := serve(context.Background(), client); err != nil {
		fmt.Println(err)
	}
}
