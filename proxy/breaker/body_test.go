package breaker

import (
	"strings"
	"testing"
)

func BenchmarkBody(b *testing.B) {
	text := []byte(strings.Repeat("Dear Mary, we are glad to tell you that your order 1234 of 3 blue shirts has been sent.\r\n", 20))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		var body Body
		body.Write(text)
		if body.Sum() == 0 {
			b.Fatal("no digest")
		}
	}
}
