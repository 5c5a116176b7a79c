package limit

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// pages reads a bbolt file without bbolt, which takes its file at its word: on
// a damaged one it panics, follows pages in a circle for ever, or reads memory that
// is not its own. Here nothing is believed before it is compared, and every page is
// visited once. The file's format is bbolt's version 2.
type pages struct {
	file    io.ReaderAt
	size    int64 // of it
	page    int64 // size of one
	count   uint64
	visited map[uint64]bool
}

const (
	pageHeader  = 16
	elementSize = 16 // of a branch's and of a leaf's
	metaSize    = 64
	metaMagic   = 0xED0CDAED
	metaVersion = 2

	branchPage  = 1
	leafPage    = 2
	metaPage    = 4
	bucketEntry = 1
)

var order = binary.NativeEndian

// readPages calls give with every key and value of a bucket.
func readPages(file *io.SectionReader, bucket string, give func(key, value []byte) error) error {
	p := &pages{file: file, size: file.Size(), visited: map[uint64]bool{}}
	root, err := p.root()
	if err != nil {
		return err
	}
	found := false
	err = p.walk(root, func(flags uint32, key, value []byte) error {
		if flags != bucketEntry || string(key) != bucket || found {
			return fmt.Errorf("%w: bucket %q", ErrDamaged, key)
		}
		found = true
		return p.bucket(value, give)
	})
	if err == nil && !found {
		return fmt.Errorf("%w: no bucket", ErrDamaged)
	}
	return err
}

// root gives the root page of the last transaction. Both metas must be whole:
// bbolt would take the other of the two, and so an earlier state, without a word.
func (p *pages) root() (uint64, error) {
	first, err := p.meta(0)
	if err != nil {
		return 0, err
	}
	p.page = int64(order.Uint32(first[8:]))
	if p.page < 1024 || p.page > 1<<16 || p.page&(p.page-1) != 0 {
		return 0, fmt.Errorf("%w: pages of %d octets", ErrDamaged, p.page)
	}
	second, err := p.meta(p.page)
	if err != nil {
		return 0, err
	}
	newest := first
	if order.Uint64(second[48:]) > order.Uint64(first[48:]) {
		newest = second
	}
	p.count = order.Uint64(newest[40:])
	return order.Uint64(newest[16:]), nil
}

func (p *pages) meta(at int64) ([]byte, error) {
	b, err := p.read(at, pageHeader+metaSize)
	if err != nil {
		return nil, err
	}
	meta := b[pageHeader:]
	sum := fnv.New64a()
	sum.Write(meta[:metaSize-8])
	if order.Uint16(b[8:]) != metaPage || order.Uint32(meta) != metaMagic || order.Uint32(meta[4:]) != metaVersion ||
		order.Uint64(meta[56:]) != sum.Sum64() {
		return nil, fmt.Errorf("%w: meta page at %d", ErrDamaged, at)
	}
	return meta, nil
}

func (p *pages) read(at, n int64) ([]byte, error) {
	if at < 0 || n < 0 || at > p.size || n > p.size-at {
		return nil, fmt.Errorf("%w: %d octets at %d of %d", ErrDamaged, n, at, p.size)
	}
	b := make([]byte, n)
	if _, err := p.file.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("%w: reading at %d: %w", ErrDamaged, at, err)
	}
	return b, nil
}

// bucket goes through a bucket, which lies in pages of its own or in its entry.
func (p *pages) bucket(value []byte, give func(key, value []byte) error) error {
	if len(value) < 16 {
		return fmt.Errorf("%w: bucket of %d octets", ErrDamaged, len(value))
	}
	item := func(flags uint32, key, value []byte) error {
		if flags != 0 {
			return fmt.Errorf("%w: entry with flags %d", ErrDamaged, flags)
		}
		return give(key, value)
	}
	if root := order.Uint64(value); root != 0 {
		return p.walk(root, item)
	}
	inline := value[16:]
	if len(inline) < pageHeader || order.Uint16(inline[8:]) != leafPage {
		return fmt.Errorf("%w: bucket without a page", ErrDamaged)
	}
	return leaf(inline, item)
}

// walk goes through a tree of pages.
func (p *pages) walk(id uint64, item func(flags uint32, key, value []byte) error) error {
	if id < 2 || id >= p.count || p.visited[id] || id > uint64(p.size/p.page) {
		return fmt.Errorf("%w: page %d of %d", ErrDamaged, id, p.count)
	}
	p.visited[id] = true
	header, err := p.read(int64(id)*p.page, pageHeader)
	if err != nil {
		return err
	}
	if order.Uint64(header) != id {
		return fmt.Errorf("%w: page %d says that it is %d", ErrDamaged, id, order.Uint64(header))
	}
	b, err := p.read(int64(id)*p.page, (int64(order.Uint32(header[12:]))+1)*p.page)
	if err != nil {
		return err
	}
	switch order.Uint16(b[8:]) {
	case leafPage:
		return leaf(b, item)
	case branchPage:
		return p.branch(b, item)
	}
	return fmt.Errorf("%w: page %d is of kind %d", ErrDamaged, id, order.Uint16(b[8:]))
}

func (p *pages) branch(b []byte, item func(flags uint32, key, value []byte) error) error {
	elements, err := elementsOf(b)
	if err != nil {
		return err
	}
	for ; len(elements) > 0; elements = elements[elementSize:] {
		if err := p.walk(order.Uint64(elements[8:]), item); err != nil {
			return err
		}
	}
	return nil
}

func elementsOf(b []byte) ([]byte, error) {
	n := int(order.Uint16(b[10:])) * elementSize
	if n > len(b)-pageHeader {
		return nil, fmt.Errorf("%w: page with %d elements", ErrDamaged, n/elementSize)
	}
	return b[pageHeader : pageHeader+n], nil
}

func leaf(b []byte, item func(flags uint32, key, value []byte) error) error {
	elements, err := elementsOf(b)
	if err != nil {
		return err
	}
	for at := 0; at < len(elements); at += elementSize {
		e := elements[at:]
		from := int64(pageHeader+at) + int64(order.Uint32(e[4:]))
		middle := from + int64(order.Uint32(e[8:]))
		to := middle + int64(order.Uint32(e[12:]))
		if to > int64(len(b)) {
			return fmt.Errorf("%w: element beyond its page", ErrDamaged)
		}
		if err := item(order.Uint32(e), b[from:middle], b[middle:to]); err != nil {
			return err
		}
	}
	return nil
}
