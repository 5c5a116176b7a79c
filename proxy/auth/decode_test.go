package auth

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		in, want string
		err      error
	}{
		{"AHNob3AAcGFzc3dvcmQ=", "\x00shop\x00password", nil},
		{"=", "", nil}, {"", "", nil}, {"*", "", ErrCancelled}, {"**", "", ErrMalformed}, {"YQ", "", ErrMalformed},
		{"YR==", "", ErrMalformed}, {"YQ==\n", "", ErrMalformed}, {"Y\rQ==", "", ErrMalformed}, {"YQ==YQ==", "", ErrMalformed}, {" YQ==", "", ErrMalformed},
		{strings.Repeat("YWFh", maxLine/4), strings.Repeat("a", maxLine/4*3), nil},
		{strings.Repeat("YWFh", maxLine/4+1), "", ErrTooLong},
	} {
		line := []byte(c.in)
		got, err := Decode(line)
		if string(got) != c.want || err != c.err || err == nil && got == nil {
			t.Errorf("%.30q: %.30q, %v; want %.30q, %v", c.in, got, err, c.want, c.err)
		}
		if len(bytes.Trim(line, "\x00")) > 0 {
			t.Errorf("%.30q: the line is left as %.30q", c.in, line)
		}
	}
}

// FuzzExchange throws lines at every mechanism: no panic, an end within a few
// steps, only our errors, and never an identity without the password.
func FuzzExchange(f *testing.F) {
	f.Add(uint8(0), []byte("\x00shop\x00wrong"), []byte(""), []byte(""))
	f.Add(uint8(1), []byte("shop"), []byte("wrong"), []byte(""))
	f.Add(uint8(2), []byte("n,,n=user,r=abc"), []byte("c=biws,r=abc,p=eA=="), []byte(""))
	f.Add(uint8(5), []byte("tim b913a602c7eda7a495b4e6e7334d3890"), []byte(""), []byte(""))
	f.Add(uint8(6), []byte("user=a\x01auth=Bearer t\x01\x01"), []byte(""), []byte(""))
	f.Add(uint8(7), []byte("n,a=b,\x01auth=Bearer t\x01\x01"), []byte("\x01"), []byte(""))
	s := testStore(f)
	counted(s, "right password", open())
	mechs := []string{"PLAIN", "LOGIN", "SCRAM-SHA-256"}
	f.Fuzz(func(t *testing.T, which uint8, a, b, c []byte) {
		var server beginner = s
		names := mechs
		if which%8 >= 3 {
			server, names = AcceptAny{}, AcceptAny{}.Mechanisms()
		}
		mech := names[int(which%8)%len(names)]
		secret := bytes.Contains(slices.Concat(a, b, c), []byte("right password"))
		for _, initial := range []bool{true, false} {
			lines := [][]byte{bytes.Clone(a), bytes.Clone(b), bytes.Clone(c), {}}
			if !initial {
				lines = append([][]byte{nil}, lines...)
			}
			_, x, err := play(t, server, mech, lines...)
			var typed Error
			if err != nil && !errors.As(err, &typed) {
				t.Errorf("%s: %v", mech, err)
			}
			if x.Identity() != "" && !secret {
				t.Errorf("%s: %q logged in with %q %q %q", mech, x.Identity(), a, b, c)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("AHNob3AAcGFzc3dvcmQ="))
	f.Add([]byte("=\r\n*"))
	f.Fuzz(func(t *testing.T, line []byte) {
		original := string(line)
		response, err := Decode(line)
		if err == nil && original != "=" && base64.StdEncoding.EncodeToString(response) != original {
			t.Errorf("%q is taken for %q", original, response)
		}
	})
}
