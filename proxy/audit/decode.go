package audit

import (
	"encoding/json"
	"time"
)

// UnmarshalJSON reads one line of the log. Unknown keys are ignored: an older
// smtpwall reads what a newer one wrote.
func (e *Event) UnmarshalJSON(line []byte) error {
	type plain Event // without the methods, so that the decoder does not come back here
	wire := struct {
		*plain
		DurationMS float64 `json:"duration_ms"`
	}{plain: (*plain)(e)}
	if err := json.Unmarshal(line, &wire); err != nil {
		return err
	}
	e.Duration = time.Duration(wire.DurationMS*1000+0.5) * time.Microsecond
	return nil
}
