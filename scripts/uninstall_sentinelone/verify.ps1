# Whether the SentinelOne agent is gone: exit code 0 yes, 1 no.
param([string] $Passphrase = '')
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'
if ($null -ne (Get-Service -Name 'SentinelAgent' -ErrorAction SilentlyContinue)) { exit 1 }
exit 0
