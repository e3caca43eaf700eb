package apply_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/nebraska/omahaclient/apply"
)

// A few bytes whose header asks for gigabytes to look back on are refused, and nothing of that size is allocated.
func TestArchive_greedyWindow(t *testing.T) {
	for name, file := range map[string][]byte{
		"xz":   greedyXZ(t),
		"zstd": {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00}, // window descriptor: 2 GiB
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for _, a := range []apply.Applier{apply.Archive{Dir: t.TempDir()}, apply.Binary{Path: filepath.Join(t.TempDir(), "agent")}} {
				if err := a.Apply(t.Context(), offer(t, "2.0.0", string(file))); err == nil {
					t.Errorf("%T took it", a)
				}
			}
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 512<<20 {
				t.Errorf("%d MiB were allocated", grown>>20)
			}
		})
	}
}

// greedyXZ is a good xz file but for its dictionary, which is said to be of 4 GiB.
func greedyXZ(t *testing.T) []byte {
	t.Helper()
	const begin = 12 // of the block header: its size, flags, LZMA2's id, the size of its properties, the dictionary's size
	file := packed(t, "xz", tarOf(t, site("2")...))
	end := begin + (int(file[begin])+1)*4 - crc32.Size
	if !bytes.Equal(file[begin+2:begin+4], []byte{0x21, 1}) {
		t.Fatalf("block header % x", file[begin:end])
	}
	file[begin+4] = 40
	binary.LittleEndian.PutUint32(file[end:], crc32.ChecksumIEEE(file[begin:end]))
	return file
}
