package app

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// What strangers choose cannot steer the terminal that shows the log.
func TestLogIsSafeToShow(t *testing.T) {
	hostile := "/tmp/x\u009b31mRED\u202ey\x1b[2J\nforged line\xff"
	var out bytes.Buffer
	core := zapcore.NewCore(zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&out), zapcore.DebugLevel)
	log := zap.New(safeCore{core}).With(zap.String("unit", hostile))
	log.Info("attempt", zap.String("peer_exe", hostile), zap.Error(errors.New(hostile)), zap.Int("count", 3))
	text := strings.TrimSuffix(out.String(), "\n")
	if i := strings.IndexFunc(text, func(r rune) bool { return r != '\t' && invisible(r) }); i >= 0 {
		t.Errorf("%q is in the log, at octet %d", text, i)
	}
	if !strings.Contains(text, "RED") || !strings.Contains(text, "count") || strings.Count(text, `\\u009b`) != 3 {
		t.Errorf("the log says %q", text)
	}
	log.Debug("below", zap.String("x", "y"))
}
