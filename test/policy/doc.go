// Package policy_test decides the cases of testdata: configurations as an
// administrator writes them, who sends what, and what must come of it. Each
// case goes from the text through internal/config and internal/app to
// proxy/policy. See testdata/README.
package policy_test
