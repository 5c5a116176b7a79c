package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/smtpwall/smtpwall/proxy/limit"
)

// ErrNotSuspended is what Resume fails with where there is nothing to resume.
var ErrNotSuspended = errors.New("it is not suspended")

const (
	// maxKey and maxReason bound a suspension's words, in octets. The guard takes
	// no longer keys: a prefix and a unit's name, which has 255 at most.
	maxKey    = 300
	maxReason = 512
	// nobody is the uid that no process has.
	nobody = math.MaxUint32
	// maxSkew is by how much an end may have passed on its way to us.
	maxSkew = time.Minute
)

// CheckKey says whether a key can be suspended: uid:N, account:NAME,
// container:ID, unit:NAME, or unknown, which is everybody without a key.
func CheckKey(key string) error {
	kind, name, prefixed := strings.Cut(key, ":")
	switch kind {
	case "unknown":
		if prefixed {
			return fmt.Errorf("%q is no key: nothing is known of unknown", key)
		}
	case "uid":
		n, err := strconv.ParseUint(name, 10, 32)
		if err != nil || strconv.FormatUint(n, 10) != name {
			return fmt.Errorf("%q: a uid is a number of at most 32 bits", key)
		}
		if n == nobody {
			return fmt.Errorf("%q: nobody has that uid", key)
		}
	case "account", "container", "unit":
		if name == "" || len(key) > maxKey || !isLine(name) {
			return fmt.Errorf("%q: the name must be there and one line, all together at most %d octets", key, maxKey)
		}
	default:
		return fmt.Errorf("%q is no key: use uid:N, account:NAME, container:ID, unit:NAME or unknown", key)
	}
	return nil
}

func isLine(text string) bool {
	return utf8.ValidString(text) && strings.IndexFunc(text, unicode.IsControl) < 0
}

// check fills in what the server knows better than who asks, and refuses what
// makes no sense.
func check(ctx context.Context, s limit.Suspension, now time.Time) (limit.Suspension, error) {
	s.Since, s.By = now, "unknown"
	if uid, ok := PeerUID(ctx); ok {
		s.By = "uid " + strconv.FormatUint(uint64(uid), 10)
	}
	switch err := CheckKey(s.Key); {
	case err != nil:
		return s, err
	case len(s.Reason) > maxReason || !isLine(s.Reason):
		return s, fmt.Errorf("the reason must be one line of at most %d octets", maxReason)
	case !s.Until.IsZero() && s.Until.Before(now.Add(-maxSkew)):
		return s, fmt.Errorf("the end of the suspension, %s, is over", s.Until.UTC().Format(time.RFC3339))
	}
	return s, nil
}

func (h *handler) limitStates(w http.ResponseWriter, r *http.Request) {
	identity := r.URL.Query().Get(paramIdentity)
	if identity == "" {
		refuse(w, http.StatusBadRequest, errors.New("limits of whom?"))
		return
	}
	states, err := h.limits.Limits(r.Context(), identity, r.URL.Query().Get(paramRule))
	if states == nil {
		states = []LimitState{}
	}
	answerOr(w, states, err)
}

func (h *handler) suspensions(w http.ResponseWriter, r *http.Request) {
	all, err := h.limits.Suspensions(r.Context())
	if all == nil {
		all = []limit.Suspension{}
	}
	answerOr(w, all, err)
}

// suspend answers with the suspension as it is in force.
func (h *handler) suspend(w http.ResponseWriter, r *http.Request) {
	var s limit.Suspension
	err := readBody(w, r, maxSuspension, &s)
	if err == nil {
		s, err = check(r.Context(), s, time.Now().UTC())
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("suspending: %w", err))
		return
	}
	answerOr(w, s, h.actor.Suspend(r.Context(), s))
}

func (h *handler) resume(w http.ResponseWriter, r *http.Request) {
	key := r.URL.Query().Get(paramKey) // of any form: what is suspended can be resumed
	if key == "" {
		refuse(w, http.StatusBadRequest, errors.New("resuming: whom?"))
		return
	}
	switch err := h.actor.Resume(r.Context(), key); {
	case errors.Is(err, ErrNotSuspended):
		refuse(w, http.StatusNotFound, err)
	default:
		answerOr(w, struct{}{}, err)
	}
}

func answerOr(w http.ResponseWriter, value any, err error) {
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	answer(w, http.StatusOK, value)
}

// Limits are the states of an identity's limits under a rule.
func (c *Client) Limits(ctx context.Context, identity, rule string) ([]LimitState, error) {
	var states []LimitState
	err := c.get(ctx, pathLimits+"?"+url.Values{paramIdentity: {identity}, paramRule: {rule}}.Encode(), &states)
	return states, err
}

// Suspensions are those in force.
func (c *Client) Suspensions(ctx context.Context) ([]limit.Suspension, error) {
	var all []limit.Suspension
	err := c.get(ctx, pathSuspend, &all)
	return all, err
}

// Suspend turns an identity off. Since and By are the server's to say.
func (c *Client) Suspend(ctx context.Context, s limit.Suspension) error {
	body, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("asking the proxy: %w", err)
	}
	return c.order(ctx, http.MethodPost, pathSuspend, body)
}

// Resume ends a suspension. It fails with ErrNotSuspended if there is none.
func (c *Client) Resume(ctx context.Context, key string) error {
	err := c.order(ctx, http.MethodDelete, pathSuspend+"?"+url.Values{paramKey: {key}}.Encode(), nil)
	if isAbsent(err) {
		return fmt.Errorf("the proxy: %w", ErrNotSuspended)
	}
	return err
}

// order asks for something whose answer says no more than that it was done.
func (c *Client) order(ctx context.Context, method, path string, body []byte) error {
	response, err := c.ask(ctx, method, path, body)
	if err != nil {
		return err
	}
	return response.Body.Close()
}
