package fetcher

import (
	"os"

	"github.com/nebraska/omahaclient/internal/download"
)

// Room fails with [ErrNoSpace] where the disk that holds the folder dir has no room for need more bytes and 16 MiB to spare; HTTP and OCI
// look before they fetch. Where the system cannot tell, there is room.
func Room(dir string, need int64) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return download.Room(root, need)
}
