package limit

import (
	"errors"
	"testing"
)

// FuzzRecord reads records that nobody wrote: an error or an entry that can be used
// and written.
func FuzzRecord(f *testing.F) {
	e := &entry{key: "uid:1"}
	e.of(&thousand, start.UnixNano()).add(0, 1<<30)
	e.of(&thousand, start.UnixNano()).add(lostCell, 5)
	f.Add(e.encode())
	f.Add([]byte{})
	f.Add([]byte{version, 0, 1, 1, 1, 0, 1})
	f.Fuzz(func(t *testing.T, record []byte) {
		e, err := decodeEntry("uid:1", record)
		if err != nil {
			return
		}
		for i := range e.series {
			s := &e.series[i]
			s.opens(Limit{Max: 5}, 1, func(int64) int64 { return 0 })
		}
		if _, err := decodeEntry("uid:1", e.encode()); e.encode() != nil && err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
		e.of(&thousand, start.UnixNano()).add(0, 1)
		for i := range e.series {
			if s := &e.series[i]; s.used < 0 || s.refused < 0 {
				t.Errorf("negative: %+v", s)
			}
		}
	})
}

// FuzzPages reads files of which only the metas are right: damaged, or the records of
// one.
func FuzzPages(f *testing.F) {
	_, content := written(f, 2)
	metas := content[:8192]
	f.Add(content[8192:])
	f.Fuzz(func(t *testing.T, pages []byte) {
		if _, err := records(append(metas[:8192:8192], pages...)); err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("neither read nor damaged: %v", err)
		}
	})
}
