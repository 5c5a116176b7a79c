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
		"": -1, "10": -1, "10 m": -1, "-1s": -1, "1d": -1, "m": -1, "9999999999h": -1, "1h-30m": -1, "ten minutes": -1,
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
