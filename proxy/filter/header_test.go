package filter

import (
	"bytes"
	"strings"
	"testing"
)

func FuzzSection(f *testing.F) {
	f.Add([]byte(testHeader), "X-New", "one\n two", uint32(1), true)
	f.Add([]byte("no field\r\n\r\n"), "From", "", uint32(0), false)
	f.Add([]byte("A:\r\n B\r\nA: 2"), "A", "\r\n\x00", uint32(9), false)
	f.Fuzz(func(t *testing.T, header []byte, name, value string, at uint32, leading bool) {
		s := parseSection(bytes.Clone(header))
		if again := s.bytes(false); !bytes.HasPrefix(again, header) {
			t.Fatalf("%q became %q", header, again)
		}
		for _, old := range s.fields {
			if told := old.value(leading); strings.ContainsRune(told, 0) {
				t.Errorf("told %q", told)
			}
		}
		fresh, err := newField(name, value, leading)
		if err != nil {
			return
		}
		// A field that was accepted is one field, wherever it stands.
		alone := parseSection(append(bytes.Clone(fresh.raw), "\r\n"...))
		if len(alone.fields) != 1 || alone.fields[0].name != name || string(alone.rest) != "\r\n" {
			t.Fatalf("%q is not one field", fresh.raw)
		}
		if stripped := bytes.ReplaceAll(fresh.raw, []byte("\r\n"), nil); bytes.ContainsAny(stripped, "\r\n\x00") {
			t.Errorf("%q has a bare CR, LF or NUL", fresh.raw)
		}
		count := len(s.fields)
		s.insert(at, fresh)
		s.change(at, fresh)
		s.add(fresh)
		if len(s.fields) < count+2 || len(s.fields) > count+3 {
			t.Errorf("%d fields, were %d", len(s.fields), count)
		}
		for s.remove(1, name) {
		}
		if s.find(0, name) >= 0 || !bytes.HasSuffix(s.bytes(true), []byte("\r\n")) {
			t.Errorf("%q", s.bytes(true))
		}
	})
}

func FuzzReplacement(f *testing.F) {
	f.Add([]byte("one\r\ntwo\nthree"), 5)
	f.Add([]byte("\r"), 1)
	f.Add([]byte("\r\r\n"), 1)
	f.Fuzz(func(t *testing.T, body []byte, cut int) {
		r := &replacement{max: maxInMemory} // which nothing here fills
		cut = min(max(0, cut), len(body))
		bare := bytes.ContainsRune(bytes.ReplaceAll(body, []byte("\r\n"), nil), '\r')
		err := r.write(body[:cut])
		if err == nil {
			err = r.write(body[cut:])
		}
		var size int64
		if err == nil {
			_, size, err = r.finish()
		}
		if bare != (err != nil) {
			t.Fatalf("%q: error %v", body, err)
		}
		if err != nil {
			return
		}
		want := bytes.ReplaceAll(bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
		if len(want) > 0 && !bytes.HasSuffix(want, []byte("\r\n")) {
			want = append(want, "\r\n"...)
		}
		if !bytes.Equal(r.memory, want) || size != int64(len(want)) {
			t.Errorf("%q became %q, want %q", body, r.memory, want)
		}
	})
}
