package config

import (
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"1B": 1, "1kB": 1000, "1KiB": 1024, "50MiB": 50 << 20, "50 MiB": 50 << 20, "1MB": 1e6, "1.5GiB": 3 << 29, "2GB": 2e9,
		"0.5KiB": 512, "1TiB": 1 << 40, "0B": 0, "8191PiB": -1, "9223372036854775807B": -1,
		"": -1, "50": -1, "MiB": -1, "-1MiB": -1, "+1MiB": -1, "1e3B": -1, "0x10KiB": -1, "1mib": -1, "1 M": -1, "1MiBB": -1,
		"0.3B": -1, "NaNB": -1, "InfMiB": -1, "99999999999GiB": -1, "1KiB1": -1, "1_000B": -1, "1.MiB": 1 << 20, "..B": -1,
	} {
		got, err := parseSize(text)
		if want < 0 {
			if err == nil {
				t.Errorf("%q: got %d, want an error", text, got)
			} else if asFlaw(err).hint == "" {
				t.Errorf("%q: no hint", text)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
}

func TestFormatSize(t *testing.T) {
	for bytes, want := range map[int64]string{0: "0B", 1: "1B", 1023: "1023B", 1024: "1KiB", 1536: "1536B", 3 << 19: "1536KiB", 50 << 20: "50MiB", 1 << 30: "1GiB", 1 << 44: "16TiB"} {
		got := formatSize(bytes)
		if got != want {
			t.Errorf("%d: got %s, want %s", bytes, got, want)
		}
		if back, err := parseSize(got); err != nil || back != bytes {
			t.Errorf("%s reads as %d, %v", got, back, err)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"10m": 10 * time.Minute, "1h30m": 90 * time.Minute, "90s": 90 * time.Second, "0s": 0, "0": 0, "1.5h": 90 * time.Minute,
		"1d": 24 * time.Hour, "5d": 120 * time.Hour, "1d12h": 36 * time.Hour, "0d": 0, "1d0s": 24 * time.Hour, "65535d": 65535 * 24 * time.Hour,
		"d": -1, "-1d": -1, "1.5d": -1, "1d1d": -1, "1h1d": -1, "1d0": -1, "1d5": -1, "1d-1h": -1, "1d+1h": -1, "1 d": -1, "65536d": -1, "65535d2000000h": -1,
		"": -1, "10": -1, "10 m": -1, "-1s": -1, "m": -1, "9999999999h": -1, "1h-30m": -1, "ten minutes": -1,
	} {
		got, err := parseDuration(text)
		if want < 0 {
			if err == nil {
				t.Errorf("%q: got %s, want an error", text, got)
			} else if asFlaw(err).hint == "" {
				t.Errorf("%q: no hint", text)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%q: got %s, %v, want %s", text, got, err, want)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for span, want := range map[time.Duration]string{
		0: "0s", 5 * time.Second: "5s", 10 * time.Second: "10s", 5 * time.Minute: "5m", 10 * time.Minute: "10m", time.Hour: "1h",
		10 * time.Hour: "10h", 90 * time.Minute: "1h30m", 90 * time.Second: "1m30s", time.Hour + time.Second: "1h0m1s", 24 * time.Hour: "24h",
		36 * time.Hour: "36h", 48 * time.Hour: "2d", 120 * time.Hour: "5d", 48*time.Hour + time.Minute: "48h1m",
	} {
		got := formatDuration(span)
		if got != want {
			t.Errorf("%s: got %s, want %s", span, got, want)
		}
		if back, err := parseDuration(got); err != nil || back != span {
			t.Errorf("%s reads as %s, %v", got, back, err)
		}
	}
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]float64{
		"600 messages/minute": 10, "1 message/second": 1, "10 messages/second": 10, "3600 messages/hour": 1, "86400 messages/day": 1,
		"1 messages/day": 1.0 / 86400, "1000000 messages/second": 1e6, "60000000 messages/minute": 1e6,
		"": -1, "600": -1, "600/minute": -1, "600 messages": -1, "600 messages/": -1, "600 messages/week": -1, "600 recipients/hour": -1, "600 messages/Minute": -1,
		"0 messages/minute": -1, "-1 messages/minute": -1, "+1 messages/minute": -1, "1.5 messages/minute": -1, "1000001 messages/second": -1,
		"4294967296 messages/day": -1, "messages/minute": -1, "many messages/minute": -1, "600 messages/minute/minute": -1,
	} {
		got, err := parseRate(text)
		if want < 0 {
			if err == nil {
				t.Errorf("%q: got %g, want an error", text, got)
			} else if asFlaw(err).hint == "" {
				t.Errorf("%q: no hint", text)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%q: got %g, %v, want %g", text, got, err, want)
		}
	}
}

func TestFormatRate(t *testing.T) {
	for rate, want := range map[float64]string{
		0: "", 1: "1 messages/second", 10: "10 messages/second", 0.5: "30 messages/minute", 100.0 / 3600: "100 messages/hour", 1.0 / 86400: "1 messages/day",
	} {
		got := formatRate(rate)
		if got != want {
			t.Errorf("%g: got %q, want %q", rate, got, want)
		}
		if back, err := parseRate(got); want != "" && (err != nil || back != rate) {
			t.Errorf("%s reads as %g, %v", got, back, err)
		}
	}
}
