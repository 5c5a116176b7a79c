package guard

import (
	"maps"
	"sync"
)

// conditions are the parts of the guard that do not work at present, by name.
type conditions struct {
	mu     sync.Mutex
	broken map[string]string
}

// set notes why a part does not work; nil notes that it does. It returns
// whether that is news.
func (c *conditions) set(name string, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, broken := c.broken[name]
	if err == nil {
		delete(c.broken, name)
		return broken
	}
	if c.broken == nil {
		c.broken = map[string]string{}
	}
	c.broken[name] = err.Error()
	return !broken || was != err.Error()
}

func (c *conditions) all() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.broken)
}
