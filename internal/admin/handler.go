package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// maxErrorText bounds the text of an error that is sent.
const maxErrorText = 16 << 10

// handler answers requests.
type handler struct {
	reader    Reader
	limits    LimitReader
	actor     Actor
	certifier Certifier
	log       *zap.Logger
}

// NewHandler answers the API's requests. Who asks must have been let in before.
func NewHandler(o Options) http.Handler {
	h := &handler{reader: o.Reader, limits: o.Limits, actor: o.Actor, certifier: o.Certifier, log: o.Logger}
	if h.log == nil {
		h.log = zap.NewNop()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathAlive, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET "+pathStatus, h.status)
	mux.HandleFunc("GET "+pathMessages+"{id}", h.message)
	mux.HandleFunc("POST "+pathList, h.items)
	mux.HandleFunc("POST "+pathAct+"{op}", h.act)
	mux.HandleFunc("GET "+pathLimits, h.limitStates)
	mux.HandleFunc("GET "+pathSuspend, h.suspensions)
	mux.HandleFunc("POST "+pathSuspend, h.suspend)
	mux.HandleFunc("DELETE "+pathSuspend, h.resume)
	if h.certifier != nil {
		mux.HandleFunc("GET "+pathCertificates, h.certificates)
		mux.HandleFunc("POST "+pathRenew, h.renew)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), workTime)
		defer cancel()
		giveTime(http.NewResponseController(w))
		mux.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (h *handler) status(w http.ResponseWriter, r *http.Request) {
	status, err := h.reader.Status(r.Context())
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	answer(w, http.StatusOK, status)
}

func (h *handler) items(w http.ResponseWriter, r *http.Request) {
	f, err := readFilter(w, r)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	s := newStream(w)
	defer s.end()
	err = h.reader.Items(r.Context(), f, func(item spool.Item) error {
		if err := r.Context().Err(); err != nil {
			return err
		}
		return s.write(line{Item: &item})
	})
	if err != nil {
		_ = s.write(line{Error: errorText(err)})
	}
}

func (h *handler) act(w http.ResponseWriter, r *http.Request) {
	op := Op(r.PathValue("op"))
	f, err := readFilter(w, r)
	if err == nil {
		err = op.check(f)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	// Who ordered it and hears nothing more of it has it ended.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	s := newStream(w)
	defer s.end()
	err = h.actor.Act(ctx, op, f, func(o Outcome) {
		if s.write(line{Outcome: &o}) != nil {
			cancel()
		}
	})
	if err != nil {
		_ = s.write(line{Error: errorText(err)})
	}
}

// check refuses what would reach messages that the operation is not for.
func (op Op) check(f spool.Filter) error {
	allowed := op.States()
	if allowed == nil {
		return fmt.Errorf("unknown operation %q", string(op))
	}
	if len(f.States) == 0 {
		return fmt.Errorf("%s without the states of the messages", op)
	}
	for _, state := range f.States {
		if !slices.Contains(allowed, state) {
			return fmt.Errorf("%s is not for messages in state %q", op, string(state))
		}
	}
	return nil
}

// message answers with the item in one line and the message after it.
func (h *handler) message(w http.ResponseWriter, r *http.Request) {
	item, content, err := h.reader.Message(r.Context(), r.PathValue("id"))
	switch {
	case errors.Is(err, spool.ErrUnknown):
		refuse(w, http.StatusNotFound, err)
		return
	case err != nil:
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	defer content.Close()
	w.Header().Set("Content-Type", typeMessage)
	err = json.NewEncoder(w).Encode(item)
	if err == nil {
		_, err = io.Copy(&patientWriter{w, http.NewResponseController(w)}, content)
	}
	if err != nil {
		// The client must not take half a message for a whole one.
		h.log.Debug("message not shown to its end", zap.String(logfields.Txn, item.ID), zap.Error(err))
		panic(http.ErrAbortHandler)
	}
}

// patientWriter gives each piece its own time.
type patientWriter struct {
	io.Writer
	control *http.ResponseController
}

func (w *patientWriter) Write(p []byte) (int, error) {
	giveTime(w.control)
	return w.Writer.Write(p)
}

// readFilter reads the body of a request. A word that is not known is refused:
// passed over, it would make the filter match more than was meant.
func readFilter(w http.ResponseWriter, r *http.Request) (spool.Filter, error) {
	var f spool.Filter
	if err := readBody(w, r, maxFilter, &f); err != nil {
		return spool.Filter{}, fmt.Errorf("reading the filter: %w", err)
	}
	if f.OlderThan < 0 {
		return spool.Filter{}, errors.New("reading the filter: older_than is negative")
	}
	return f, nil
}

// readBody reads one value, of words that are known, and nothing after it.
func readBody(w http.ResponseWriter, r *http.Request, most int64, value any) error {
	if r.Header.Get("Content-Type") != typeJSON {
		return fmt.Errorf("it must be %s", typeJSON)
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, most))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(value); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after it")
	}
	return nil
}

func refuse(w http.ResponseWriter, code int, err error) {
	answer(w, code, failure{Error: errorText(err)})
}

func answer(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", typeJSON)
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(value) // a client that is gone needs no answer
}

func errorText(err error) string {
	text := err.Error()
	if len(text) > maxErrorText {
		return text[:maxErrorText] + "…"
	}
	return text
}
