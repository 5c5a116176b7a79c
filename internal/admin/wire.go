package admin

import "github.com/smtpwall/smtpwall/proxy/spool"

// The resources. A filter may be long, so it is the body of a POST.
const (
	pathAlive    = "/v1/alive"       // GET: nothing
	pathStatus   = "/v1/status"      // GET: Status
	pathMessages = "/v1/messages/"   // GET with an id: the spool.Item in one line, then the message as it is
	pathList     = "/v1/messages"    // POST a spool.Filter: a line each
	pathAct      = "/v1/operations/" // POST a spool.Filter, with an Op: a line each
	pathLimits   = "/v1/limits"      // GET with ?identity=KEY&rule=NAME: a list of LimitState
	pathSuspend  = "/v1/suspensions" // GET: a list of limit.Suspension; POST one; DELETE with ?key=KEY

	pathCertificates = "/v1/certificates"       // GET: a list of Certificate
	pathRenew        = "/v1/certificates/renew" // POST a renewal: a line if it failed
)

const (
	typeJSON    = "application/json"
	typeLines   = "application/x-ndjson"
	typeMessage = "application/vnd.smtpwall.message"
)

// The parameters of a resource: a key has slashes in it.
const (
	paramIdentity = "identity"
	paramRule     = "rule"
	paramKey      = "key"
)

const (
	// maxFilter bounds the body of a request: some 100,000 ids.
	maxFilter = 4 << 20
	// maxSuspension bounds that of a suspension.
	maxSuspension = 64 << 10
	// maxRenewal bounds that of an order to renew.
	maxRenewal = 64 << 10
)

// line is one line of a streamed answer: one of the three. Error is the last.
type line struct {
	Item    *spool.Item `json:"item,omitempty"`
	Outcome *Outcome    `json:"outcome,omitempty"`
	Error   string      `json:"error,omitempty"`
}

// failure is the body of an answer that is not 200.
type failure struct {
	Error string `json:"error"`
}
