package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// bbolt maps its file into memory and believes it. A damaged file makes it read past the end, follow pages in a circle or
// ask for more memory than there is, and the last two no recover stops. So every page that bbolt would touch is looked at
// here first: within bounds, in order, none reached twice. What passes, bbolt can work on.
//
// The format is bbolt's version 2, in the byte order of the machine (bbolt, internal/common: meta.go, page.go, bucket.go).
const (
	boltMagic     = 0xED0CDAED
	boltVersion   = 2
	minPageSize   = 1 << 10 // the page sizes that bbolt looks for
	maxPageSize   = 1 << 24
	maxTx         = 1 << 63 // behind it, the numbers of transactions would begin anew some day, and the newest head be taken for the oldest
	metaSize      = 64
	headerSize    = 16 // of a page: id, flags, count, overflow
	elementSize   = 16 // of a leaf's or a branch's element
	bucketSize    = 16 // of a bucket's header: root page, sequence
	branchPage    = 0x01
	leafPage      = 0x02
	freelistPage  = 0x10
	bucketElement = 0x01
	countBeyond   = 0xFFFF // a freelist's count is in its first element
)

func u32(b []byte, at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
func u64(b []byte, at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }

// meta is what one of the two first pages says about the rest.
type meta struct {
	pageSize, root, freelist, pages, tx uint64
}

// pages reads a file page by page.
type pages struct {
	file io.ReaderAt
	meta meta
	seen []bool // of every page, whether something refers to it
}

// emit is called with each key and value of each bucket. They may be kept.
type emit func(bucket string, key, value []byte) error

// walk reads the whole file of size bytes, and calls fn for all that is in its buckets. Every error but fn's wraps
// errBroken.
func walk(file io.ReaderAt, size int64, fn emit) error {
	m, err := newestMeta(file)
	if err != nil {
		return err
	}
	if m.tx > maxTx {
		return broken("transaction %d", m.tx)
	}
	if m.pages < 2 || m.pages > uint64(size)/m.pageSize {
		return broken("%d bytes do not hold %d pages", size, m.pages)
	}
	p := &pages{file: file, meta: m, seen: make([]bool, m.pages)}
	p.seen[0], p.seen[1] = true, true
	if err := p.freelist(); err != nil {
		return err
	}
	return p.tree(m.root, nil, nil, func(e element) error { return p.bucket(e, fn) })
}

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errBroken, fmt.Errorf(format, args...))
}

// newestMeta returns the newer of the two heads that are whole. bbolt writes them in turn, each as the last act of a
// transaction: one that is not whole was being written when the machine died.
func newestMeta(file io.ReaderAt) (meta, error) {
	first, ok := readMeta(file, 0)
	if !ok {
		for size := int64(minPageSize); size <= maxPageSize; size *= 2 {
			if m, ok := readMeta(file, size); ok && m.pageSize == uint64(size) {
				return m, nil
			}
		}
		return meta{}, broken("no valid head")
	}
	if first.pageSize < minPageSize || first.pageSize > maxPageSize || first.pageSize&(first.pageSize-1) != 0 {
		return meta{}, broken("pages of %d bytes", first.pageSize)
	}
	second, ok := readMeta(file, int64(first.pageSize))
	if ok && second.pageSize != first.pageSize {
		return meta{}, broken("pages of %d and of %d bytes", first.pageSize, second.pageSize)
	}
	if ok && second.tx > first.tx {
		return second, nil
	}
	return first, nil
}

func readMeta(file io.ReaderAt, at int64) (m meta, ok bool) {
	var b [headerSize + metaSize]byte
	if _, err := file.ReadAt(b[:], at); err != nil {
		return m, false
	}
	return parseMeta(b[headerSize:])
}

func parseMeta(b []byte) (m meta, ok bool) {
	sum := fnv.New64a()
	_, _ = sum.Write(b[:metaSize-8])
	m = meta{
		pageSize: uint64(u32(b, 8)),
		root:     u64(b, 16),
		freelist: u64(b, 32),
		pages:    u64(b, 40),
		tx:       u64(b, 48),
	}
	return m, u32(b, 0) == boltMagic && u32(b, 4) == boltVersion && u64(b, metaSize-8) == sum.Sum64()
}

// page is one page, with those that it flows over into.
type page struct {
	id    uint64
	flags uint16
	count int
	bytes []byte
}

func parsePage(b []byte) page {
	return page{id: u64(b, 0), flags: binary.NativeEndian.Uint16(b[8:]), count: int(binary.NativeEndian.Uint16(b[10:])), bytes: b}
}

// take reads a page, to which nothing else may refer.
func (p *pages) take(id uint64) (page, error) {
	if err := p.claim(id); err != nil {
		return page{}, err
	}
	var head [headerSize]byte
	at := int64(id * p.meta.pageSize)
	if _, err := p.file.ReadAt(head[:], at); err != nil {
		return page{}, broken("page %d: %w", id, err)
	}
	overflow := uint64(u32(head[:], 12))
	if got := parsePage(head[:]).id; got != id {
		return page{}, broken("page %d says it is %d", id, got)
	}
	for i := range overflow {
		if err := p.claim(id + 1 + i); err != nil {
			return page{}, err
		}
	}
	b := make([]byte, (1+overflow)*p.meta.pageSize)
	if _, err := p.file.ReadAt(b, at); err != nil {
		return page{}, broken("page %d: %w", id, err)
	}
	return parsePage(b), nil
}

// claim notes that something refers to a page.
func (p *pages) claim(id uint64) error {
	if id >= p.meta.pages || p.seen[id] {
		return broken("page %d is beyond the end or in use twice", id)
	}
	p.seen[id] = true
	return nil
}

// freelist reads which pages are free.
func (p *pages) freelist() error {
	pg, err := p.take(p.meta.freelist)
	if err != nil {
		return err
	}
	ids, count := pg.bytes[headerSize:], uint64(pg.count)
	if pg.count == countBeyond {
		count, ids = u64(ids, 0), ids[8:]
	}
	if pg.flags != freelistPage || count > uint64(len(ids)/8) {
		return broken("page %d is no list of %d free pages", pg.id, count)
	}
	for i := range count {
		if err := p.claim(u64(ids, int(8*i))); err != nil {
			return err
		}
	}
	return nil
}

// element is one entry of a page: a leaf's has flags and a value, a branch's a page below.
type element struct {
	flags      uint32
	key, value []byte
	below      uint64
}

// tree reads the pages below id, whose keys must begin with low and lie below high; nil is no bound. bbolt looks for low in the page
// above when it writes this one anew: if it did not find it there, it would leave two ways to the same keys.
func (p *pages) tree(id uint64, low, high []byte, fn func(element) error) error {
	pg, err := p.take(id)
	if err != nil {
		return err
	}
	elements, err := pg.elements(low, high)
	switch {
	case err != nil:
		return err
	case low != nil && (len(elements) == 0 || !bytes.Equal(elements[0].key, low)):
		return broken("page %d does not begin with the key that leads to it", id)
	case pg.flags == leafPage:
		return each(elements, fn)
	case len(elements) == 0:
		return broken("page %d is no branch", id)
	}
	for i, e := range elements {
		next := high
		if i+1 < len(elements) {
			next = elements[i+1].key
		}
		if err := p.tree(e.below, e.key, next, fn); err != nil {
			return err
		}
	}
	return nil
}

func each(elements []element, fn func(element) error) error {
	for _, e := range elements {
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// elements reads a leaf or a branch: a table, and then, without gaps, the keys and values that it points to.
func (pg page) elements(low, high []byte) ([]element, error) {
	end := uint64(headerSize + elementSize*pg.count)
	if pg.flags != leafPage && pg.flags != branchPage || end > uint64(len(pg.bytes)) {
		return nil, broken("page %d is no leaf or branch of %d elements", pg.id, pg.count)
	}
	list := make([]element, pg.count)
	for i := range list {
		at := uint64(headerSize + elementSize*i)
		b := pg.bytes[at:]
		e := element{below: u64(b, 8)}
		pos, keySize, valueSize := u32(b, 0), uint64(u32(b, 4)), uint64(0)
		if pg.flags == leafPage {
			e.flags, pos = u32(b, 0), u32(b, 4)
			keySize, valueSize = uint64(u32(b, 8)), uint64(u32(b, 12))
		}
		if at+uint64(pos) != end || keySize+valueSize > uint64(len(pg.bytes))-end {
			return nil, broken("page %d: element %d has its content in a wrong place", pg.id, i)
		}
		e.key, e.value = pg.bytes[end:end+keySize], pg.bytes[end+keySize:end+keySize+valueSize]
		end += keySize + valueSize
		if len(e.key) == 0 || bytes.Compare(e.key, low) < 0 || high != nil && bytes.Compare(e.key, high) >= 0 ||
			i > 0 && bytes.Compare(list[i-1].key, e.key) >= 0 {
			return nil, broken("page %d: keys are out of order", pg.id)
		}
		list[i] = e
	}
	return list, nil
}

// bucket reads a bucket, which has a tree of its own, or where it is small a leaf in its element.
func (p *pages) bucket(b element, fn emit) error {
	name := string(b.key)
	if b.flags != bucketElement || len(b.value) < bucketSize {
		return broken("%q is no bucket", name)
	}
	inner := func(e element) error {
		if e.flags != 0 {
			return broken("bucket %q holds a bucket", name)
		}
		return fn(name, e.key, e.value)
	}
	if root := u64(b.value, 0); root != 0 {
		return p.tree(root, nil, nil, inner)
	}
	if len(b.value) < bucketSize+headerSize {
		return broken("bucket %q is cut off", name)
	}
	pg := parsePage(b.value[bucketSize:])
	elements, err := pg.elements(nil, nil)
	if err != nil || pg.flags != leafPage || pg.id != 0 { // bbolt would free the page of that number, when the bucket moves to one of its own
		return errors.Join(broken("bucket %q holds no leaf", name), err)
	}
	return each(elements, inner)
}
