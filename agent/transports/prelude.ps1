# What PowerShell runs first, by -EncodedCommand: it reads {"mark", "script", "parameters"} as JSON (ASCII, one line)
# from standard input. Each text in the parameters begins with = so that no version takes it for a date.
# Lines that begin with # are left out.
function ConvertFrom-Exeunt($v) {
if ($v -is [string]) { return $v.Substring(1) }
if ($v -is [Collections.IList]) { $l = @(); foreach ($i in $v) { $l += ,(ConvertFrom-Exeunt $i) }; return ,$l }
if ($v -is [Management.Automation.PSCustomObject]) { $h = @{}; foreach ($p in $v.PSObject.Properties) { $h[$p.Name] = ConvertFrom-Exeunt $p.Value }; return $h }
return $v
}
$ProgressPreference = 'SilentlyContinue'
[Console]::OutputEncoding = New-Object Text.UTF8Encoding $false
$OutputEncoding = [Console]::OutputEncoding
$exeunt = ($input | Out-String) | ConvertFrom-Json
$parameters = ConvertFrom-Exeunt $exeunt.parameters
if ($exeunt.mark) { [Console]::Error.WriteLine("$($exeunt.mark) $PID") }
# Neither a text that does not parse nor parameters that do not fit may look like a script that ran: the first ends all of
# it here, the second would only be told. Within the body errors do what they do without us.
$ErrorActionPreference = 'Stop'
$exeunt = [scriptblock]::Create($exeunt.script)
$ErrorActionPreference = 'Continue'
$global:LASTEXITCODE = 0
& $exeunt @parameters
if (-not $? -and $LASTEXITCODE -eq 0) { exit 1 }
exit $LASTEXITCODE
