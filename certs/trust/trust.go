package trust

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Options says which CA is meant, and where.
type Options struct {
	// Certificate is the file of the local CA's root certificate. Remove and Inspect do without.
	Certificate string
	// Root is the root directory of the system that is meant, a container's image say; empty is "/". Its own commands
	// are run there, with the rights of the caller.
	Root string
	// JavaHomes are JDKs beside those where distributions and people put them.
	JavaHomes []string
	// Users have NSS databases that Install writes to, beside root's and the system's. With AllUsers, everybody's in
	// /etc/passwd are. Remove and Inspect look at everybody's and at those of Users.
	Users    []string
	AllUsers bool
	// DryRun has Install and Remove only say what they would do.
	DryRun bool
}

// Report says what was found, and done.
type Report struct {
	// Name is that of the local CA in all stores; empty if it is not known.
	Name string
	// Places are the stores, the system's first.
	Places []Place
	// Advice is for programs that read none of them.
	Advice []Advice
}

// Changed reports whether anything was, or on a dry run would be.
func (r Report) Changed() bool {
	return slices.ContainsFunc(r.Places, func(p Place) bool { return p.Changed })
}

// Place is one store.
type Place struct {
	Store string // its kind: a family of distributions, "Java" or "NSS"
	Path  string // a directory of anchors, a keystore or the directory of a database
	User  string // whose database it is; empty for the system's
	// Trusted are the names of our CAs that programs trust by this store: after Install and Remove, now for Inspect.
	// On a dry run they are those from before.
	Trusted []string
	// Current says that the local CA of Options is among them, Older that another one is.
	Current, Older bool
	// Changed is false if all was so before; Did is what was done, or on a dry run would be.
	Changed bool
	Did     []string
	// Note says why a store was left alone.
	Note string
	// Err is what went wrong here.
	Err error
}

func (p Place) fail() error {
	if p.Err == nil {
		return nil
	}
	return fmt.Errorf("%s, %s: %w", p.Store, p.Path, p.Err)
}

// errLeft marks a store that is left alone for a reason that somebody should know.
type errLeft string

func (e errLeft) Error() string { return string(e) }

// Install puts the local CA into every store, in the place of any earlier one, and has the system make its bundles
// anew. Doing it twice is no error. If the system's own store cannot take it, no other is tried; what fails after that
// is in the report and in the error, and the rest is done.
func Install(ctx context.Context, options Options) (report Report, err error) {
	add, err := readAuthority(options.Certificate)
	if err != nil {
		return Report{}, err
	}
	err = inside(options.Root, func() error {
		report, err = options.install(ctx, add)
		return err
	})
	return report, err
}

func (o Options) install(ctx context.Context, add authority) (Report, error) {
	system, err := findSystem()
	if err != nil {
		return Report{}, err
	}
	accounts, err := o.accounts(ctx, o.AllUsers)
	if err != nil {
		return Report{}, err
	}
	report := Report{Name: add.name, Advice: advice(add, system)}
	first := o.put(ctx, system, add)
	report.Places = append(report.Places, first)
	if first.Err != nil {
		return report, first.fail()
	}
	var errs []error
	for _, s := range o.others(accounts, &system) {
		p := o.put(ctx, s, add)
		report.Places = append(report.Places, p)
		errs = append(errs, p.fail())
	}
	return report, errors.Join(errs...)
}

// Remove takes every local CA of smtpwall out of every store. Doing it twice is no error. All stores are tried; what
// could not be done is in the report and in the error.
func Remove(ctx context.Context, options Options) (report Report, err error) {
	err = inside(options.Root, func() error {
		report, err = options.remove(ctx)
		return err
	})
	return report, err
}

func (o Options) remove(ctx context.Context) (report Report, err error) {
	stores, err := o.all(ctx)
	errs := []error{err}
	for _, s := range stores {
		p := o.takeOut(ctx, s)
		report.Places = append(report.Places, p)
		errs = append(errs, p.fail())
	}
	return report, errors.Join(errs...)
}

// Inspect says which of our CAs every store holds. The local CA may be missing.
func Inspect(ctx context.Context, options Options) (report Report, err error) {
	var current *authority
	if a, err := readAuthority(options.Certificate); err == nil {
		current, report.Name = &a, a.name
	}
	err = inside(options.Root, func() error {
		stores, err := options.all(ctx)
		errs := []error{err}
		for _, s := range stores {
			p := look(ctx, s, current)
			report.Places = append(report.Places, p)
			errs = append(errs, p.fail())
		}
		return errors.Join(errs...)
	})
	return report, err
}

// all are the stores that may hold a CA of ours, the system's first: it keeps up some of the others.
func (o Options) all(ctx context.Context) (stores []store, err error) {
	accounts, err := o.accounts(ctx, true)
	errs := []error{err}
	var known *system
	first, err := findSystem()
	switch {
	case err == nil:
		stores, known = append(stores, first), &first
	case !errors.Is(err, errNoSystem):
		errs = append(errs, err)
	}
	return append(stores, o.others(accounts, known)...), errors.Join(errs...)
}

// others are the stores beside the system's.
func (o Options) others(accounts []account, system *system) (stores []store) {
	for _, k := range findKeystores(o.JavaHomes, system) {
		stores = append(stores, k)
	}
	for _, d := range findDatabases(accounts, system) {
		stores = append(stores, d)
	}
	return stores
}

// put makes a store hold one CA of ours, this one.
func (o Options) put(ctx context.Context, s store, add authority) Place {
	p, h := s.place(), &hand{dry: o.DryRun}
	held, err := s.held(ctx)
	if err != nil {
		p.fails(err)
		return p
	}
	drop := slices.DeleteFunc(slices.Clone(held), func(e entry) bool { return e.is(add) })
	p.Changed = len(held) != 1 || len(drop) > 0
	_, first := s.(system)
	if p.Changed || first { // the system's makes up for an update that failed the last time
		err = s.change(ctx, h, &add, drop)
	}
	p.Did = h.did
	if err != nil {
		p.fails(err)
		return p
	}
	if p.Changed && !o.DryRun {
		held = []entry{{name: add.name, der: add.der, trusted: true}}
	}
	p.holds(held, &add)
	return p
}

// takeOut makes a store hold no CA of ours.
func (o Options) takeOut(ctx context.Context, s store) Place {
	p, h := s.place(), &hand{dry: o.DryRun}
	held, err := s.held(ctx)
	if err == nil && len(held) > 0 {
		p.Changed = true
		err = s.change(ctx, h, nil, held)
	}
	p.Did = h.did
	if err != nil {
		p.fails(err)
		if p.Err != nil && len(held) > 0 {
			p.Err = fmt.Errorf("%s remains: %w", strings.Join(names(held), ", "), p.Err)
		}
		return p
	}
	if o.DryRun {
		p.holds(held, nil)
	}
	return p
}

func look(ctx context.Context, s store, current *authority) Place {
	p := s.place()
	held, err := s.held(ctx)
	if err != nil {
		p.fails(err)
		return p
	}
	p.holds(held, current)
	return p
}

// holds fills in what a store holds.
func (p *Place) holds(held []entry, current *authority) {
	for _, e := range held {
		if !e.trusted {
			continue
		}
		p.Trusted = append(p.Trusted, e.name)
		if current != nil && e.is(*current) {
			p.Current = true
		} else {
			p.Older = true
		}
	}
	slices.Sort(p.Trusted)
}

// fails fills in why a store is not as it should be.
func (p *Place) fails(err error) {
	p.Changed = false
	var left errLeft
	if errors.As(err, &left) {
		p.Note = err.Error()
		return
	}
	p.Err = err
}
