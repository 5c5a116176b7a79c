package limit

import (
	"errors"
	"os"
	"path/filepath"
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

// FuzzFile reads files that nobody wrote: damaged, or the records of one.
func FuzzFile(f *testing.F) {
	_, content := written(f, 2)
	f.Add(content)
	f.Add(content[:8192])
	path := filepath.Join(f.TempDir(), "limits.db")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := readRecords(file, func(string, []byte) error { return nil }); err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("neither read nor damaged: %v", err)
		}
	})
}
