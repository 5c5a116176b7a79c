package app

import (
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/smtpwall/smtpwall/internal/config"
)

// NewLogger makes the program log on stderr: lines for people where stderr is a
// terminal, JSON where something collects it. The level can be changed later.
func NewLogger(level config.Level) (*zap.Logger, zap.AtomicLevel) {
	atomic := zap.NewAtomicLevelAt(zapLevel(level))
	encoder := zap.NewProductionEncoderConfig()
	encoder.TimeKey = "time"
	encoder.EncodeTime = zapcore.RFC3339TimeEncoder
	var core zapcore.Encoder = zapcore.NewJSONEncoder(encoder)
	if isTerminal(os.Stderr) {
		encoder.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05")
		core = zapcore.NewConsoleEncoder(encoder)
	}
	return zap.New(safeCore{zapcore.NewCore(core, zapcore.Lock(os.Stderr), atomic)}), atomic
}

func zapLevel(level config.Level) zapcore.Level {
	parsed, err := zapcore.ParseLevel(string(level))
	if err != nil {
		return zapcore.InfoLevel
	}
	return parsed
}

func isTerminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
