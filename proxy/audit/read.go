package audit

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"time"
)

// pollInterval is how often Read looks for new lines when it follows.
const pollInterval = 200 * time.Millisecond

// File is a log to read.
type File struct {
	Path string
	// Kinds are what its writer writes; none allows any. Each log has a writer of
	// its own, and who can write to one log must not speak for the other's writer.
	Kinds []Kind
}

// Read is ReadFiles for logs that may hold events of any kind.
func Read(ctx context.Context, paths []string, filter Filter, follow bool) iter.Seq2[Event, error] {
	files := make([]File, len(paths))
	for i, path := range paths {
		files[i].Path = path
	}
	return ReadFiles(ctx, files, filter, follow)
}

// ReadFiles yields the events of several logs, merged by time, that the filter
// wants. With follow it then waits for more, across rotations, until ctx ends;
// events that come in while it follows are merged as far as they are there.
//
// An error concerns one file or one line and does not end the sequence: the
// caller may break, or go on with what can be read. A last line without its end
// is being written, or was torn by a crash, and is no error. An event of a kind
// that its file does not hold is one. Of several files
// some may be missing, since not every mode of operation writes each; only when
// all are is that an error, and only without follow.
func ReadFiles(ctx context.Context, files []File, filter Filter, follow bool) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		m := merger{filter: filter, follow: follow, yield: yield}
		for _, f := range files {
			m.sources = append(m.sources, &source{path: f.Path, kinds: f.Kinds})
		}
		defer m.close()
		if !m.drain(ctx) || !follow {
			return
		}
		ticker := time.NewTicker(pollInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if !m.drain(ctx) {
					return
				}
			}
		}
	}
}

// merger holds the sources of one Read and the caller's yield.
type merger struct {
	sources []*source
	filter  Filter
	follow  bool
	yield   func(Event, error) bool
}

func (m *merger) close() {
	for _, s := range m.sources {
		s.close()
	}
}

// drain yields what is there now, oldest first, and reports whether the caller
// wants more.
func (m *merger) drain(ctx context.Context) bool {
	if !m.fillAll() {
		return false
	}
	for ctx.Err() == nil {
		s := m.oldest()
		if s == nil {
			return true
		}
		event := s.take()
		if m.filter.Match(&event) && !m.yield(event, nil) {
			return false
		}
		if !m.fill(s) {
			return false
		}
	}
	return false
}

// fillAll reads the next event of each source. That every file is missing is an
// error once, before following or instead of it.
func (m *merger) fillAll() bool {
	missing := 0
	for _, s := range m.sources {
		if !m.fill(s) {
			return false
		}
		if s.missing != nil {
			missing++
		}
	}
	if m.follow || missing == 0 || missing < len(m.sources) {
		return true
	}
	return m.yield(Event{}, m.sources[0].missing)
}

// fill makes s hold its next event, if there is one, and yields the errors met
// on the way.
func (m *merger) fill(s *source) bool {
	for {
		err := s.next(m.follow)
		if err == nil {
			return true
		}
		if errors.Is(err, fs.ErrNotExist) {
			s.missing = err
			return true
		}
		if !m.yield(Event{}, err) {
			return false
		}
		if s.failed {
			return true
		}
	}
}

// oldest is the source whose event comes first; of equals the first named.
func (m *merger) oldest() *source {
	var first *source
	for _, s := range m.sources {
		if s.ready && (first == nil || s.event.Time.Before(first.event.Time)) {
			first = s
		}
	}
	return first
}
