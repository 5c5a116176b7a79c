package certs

// Conditions say what is wrong with the certificates, a sentence or two with what to do for each thing that is wrong:
// "certificate NAME" for one of the host's names, "certificate files", "listener of http-01" and the like. It is
// empty when all is well.
func (m *Manager) Conditions() map[string]string {
	return map[string]string{}
}
