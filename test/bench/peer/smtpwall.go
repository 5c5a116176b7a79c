package peer

import (
	"context"
	"errors"
)

func startSmtpwall(context.Context, Environment) (*Running, error) {
	return nil, errors.New("to come")
}
