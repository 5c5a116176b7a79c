package config

import (
	"fmt"
	"strings"
)

// commandBinding binds a program and its arguments, which may be alike.
type commandBinding struct {
	into    *[]string
	program string // a sample
}

func (b commandBinding) decode(d *decoder, at place, v *value) {
	hint := fmt.Sprintf("write %s = %s", lastPart(at.key), b.sample())
	if v.kind != kindArray {
		d.problem(v.line, at.key, flaw{fmt.Sprintf("must be a list, not %s: no shell splits a command", v.kind), hint})
		return
	}
	if len(v.items) == 0 {
		d.problem(v.line, at.key, flaw{"names no program", hint})
		return
	}
	var words []string
	for _, item := range v.items {
		switch {
		case item.kind != kindString:
			d.problem(item.line, at.key, flaw{fmt.Sprintf("must be a list of strings, but holds %s", item.kind), hint})
			return
		case strings.Contains(item.text, "\x00"):
			d.problem(item.line, at.key, flaw{"an argument holds a NUL character", "remove it"})
			return
		}
		words = append(words, item.text)
	}
	if err := checkPath(words[0]); err != nil {
		d.problem(v.items[0].line, at.key, asFlaw(err))
		return
	}
	*b.into = words
}

func (b commandBinding) sample() string { return "[" + quote(b.program) + `, "argument"]` }

func (b commandBinding) describe() string { return "a list of strings such as " + b.sample() }

func (b commandBinding) show() string { return "[]" }
