# Looks for the ConnectWise Automate agent on Windows, or plants the scheduled task that removes it. For Windows
# PowerShell 5.1 and later. Exit code: detect: 0 the agent is gone, 1 it is there. plant: 0 planted, 1 not planted.
# The last line is the answer as JSON; `marker` is what the task of this token has written: planted, running, done, failed.
param(
    [string] $Mode = 'detect',
    [string] $Token = 'none',
    [string] $Folder = '',
    [string] $Service = '',
    [string] $State_Folder = '',
    [string] $Health_Tasks = '',
    [int] $Delay = 10
)
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'
# The token becomes a part of names and of the task's text: nothing but letters and digits may stand in it.
if ($Token -notmatch '^[A-Za-z0-9]{1,40}$') { throw "no token: $Token" }

$Services = @('LTService', 'LTSvcMon', 'LabVNC')
$TaskName = "Exeunt Agent Removal $Token"
$CleanerName = "Exeunt Agent Removal $Token Cleaner"
# Fixed on Windows: below these only administrators can write.
$State = Join-Path $env:ProgramData 'Exeunt'
$Marker = Join-Path $State "agent-removal-$Token.txt"
$HealthFile = Join-Path $State "agent-removal-$Token-health.txt"
# What the commands of the known self-healing tasks have in common.
$HealthPattern = '(Repair|Install|Reinstall|Redo|Restart|Test)-(CWAA|LTService)|ConnectWiseAutomateAgent|LabTech\.psm1|Agent_Install|LTSvc\\'

# The task itself. Constant but for the path of the marker, whose only variable part is the token.
$Task = @'
$ErrorActionPreference = 'Continue'
function Say([string] $Text) { Set-Content -LiteralPath $Marker -Value $Text -Encoding ASCII }
Say 'running'
$services = @('LTService', 'LTSvcMon', 'LabVNC')
$folder = Join-Path $env:windir 'LTSvc'
foreach ($name in $services) { Stop-Service -Name $name -Force -ErrorAction SilentlyContinue }
Get-Process -Name 'LTSVC', 'LTSvcMon', 'LTTray' -ErrorAction SilentlyContinue | Stop-Process -Force -ErrorAction SilentlyContinue
$products = @("LabTech$([char] 0xAE) Software Remote Agent", 'ConnectWise Automate Remote Agent')
foreach ($root in 'HKLM:\SOFTWARE', 'HKLM:\SOFTWARE\WOW6432Node') {
    foreach ($key in @(Get-ChildItem -LiteralPath "$root\Microsoft\Windows\CurrentVersion\Uninstall" -ErrorAction SilentlyContinue)) {
        if ($products -cnotcontains [string] $key.GetValue('DisplayName')) { continue }
        if ($key.PSChildName -notmatch '^\{[0-9A-Fa-f-]{36}\}$') { continue }
        $arguments = @('/x', $key.PSChildName, '/qn', '/norestart', 'REBOOT=ReallySuppress')
        Start-Process -FilePath "$env:windir\System32\msiexec.exe" -ArgumentList $arguments -Wait
    }
}
foreach ($name in $services) {
    if ($null -ne (Get-Service -Name $name -ErrorAction SilentlyContinue)) { & "$env:windir\System32\sc.exe" delete $name }
}
Remove-Item -LiteralPath $folder -Recurse -Force -ErrorAction SilentlyContinue
foreach ($root in 'HKLM:\SOFTWARE', 'HKLM:\SOFTWARE\WOW6432Node') {
    Remove-Item -LiteralPath "$root\LabTech" -Recurse -Force -ErrorAction SilentlyContinue
}
Start-Sleep -Seconds 5
$left = @($services | Where-Object { $null -ne (Get-Service -Name $_ -ErrorAction SilentlyContinue) })
if ((Test-Path -LiteralPath $folder) -or $left.Count -gt 0) { Say 'failed' } else { Say 'done' }
'@

function Test-Agent {
    foreach ($name in $Services) {
        if ($null -ne (Get-Service -Name $name -ErrorAction SilentlyContinue)) { return $true }
    }
    return (Test-Path -LiteralPath (Join-Path $env:windir 'LTSvc\LTSVC.exe'))
}

function Get-MarkerText {
    if (-not (Test-Path -LiteralPath $Marker)) { return 'none' }
    return ([string] (Get-Content -LiteralPath $Marker -TotalCount 1 -Encoding ASCII)).Trim()
}

function New-StateFolder {
    # A task that runs as SYSTEM trusts this folder: nobody but administrators may write in it.
    $security = New-Object System.Security.AccessControl.DirectorySecurity
    $security.SetAccessRuleProtection($true, $false)
    $security.SetOwner((New-Object System.Security.Principal.SecurityIdentifier 'S-1-5-32-544'))
    foreach ($sid in 'S-1-5-18', 'S-1-5-32-544') {
        $who = New-Object System.Security.Principal.SecurityIdentifier $sid
        $rule = New-Object System.Security.AccessControl.FileSystemAccessRule(
            $who, 'FullControl', 'ContainerInherit,ObjectInherit', 'None', 'Allow')
        $security.AddAccessRule($rule)
    }
    if (-not (Test-Path -LiteralPath $State)) { [void] (New-Item -ItemType Directory -Path $State) }
    # Anybody may make a folder there before us, also one that leads elsewhere: its rights would be changed.
    if ((Get-Item -LiteralPath $State -Force).Attributes -band [System.IO.FileAttributes]::ReparsePoint) {
        throw "$State is a link: remove it"
    }
    Set-Acl -LiteralPath $State -AclObject $security
}

function Remove-HealthTask {
    $named = @($Health_Tasks -split ';;' | Where-Object { $_ -ne '' }) + @('CWAAHealthCheck')
    foreach ($task in @(Get-ScheduledTask)) {
        $isOne = $named -ccontains $task.TaskName
        foreach ($action in @($task.Actions)) {
            $names = @($action.PSObject.Properties | ForEach-Object { $_.Name })
            if ($names -notcontains 'Execute') { continue }
            if ("$($action.Execute) $($action.Arguments)" -match $HealthPattern) { $isOne = $true }
        }
        if (-not $isOne -or $task.TaskName -like 'Exeunt Agent Removal *') { continue }
        # The task itself: in a name, brackets would be a pattern.
        Unregister-ScheduledTask -InputObject $task -Confirm:$false
        Write-Output "$($task.TaskPath)$($task.TaskName)"
    }
}

function Register-Task([string] $Name, [string] $Text, [DateTime] $At) {
    $encoded = [Convert]::ToBase64String([System.Text.Encoding]::Unicode.GetBytes($Text))
    $action = New-ScheduledTaskAction -Execute "$env:windir\System32\WindowsPowerShell\v1.0\powershell.exe" `
        -Argument "-NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand $encoded"
    $trigger = New-ScheduledTaskTrigger -Once -At $At
    $settings = New-ScheduledTaskSettingsSet -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries -StartWhenAvailable `
        -ExecutionTimeLimit (New-TimeSpan -Minutes 45)
    $principal = New-ScheduledTaskPrincipal -UserId 'SYSTEM' -LogonType ServiceAccount -RunLevel Highest
    [void] (Register-ScheduledTask -TaskName $Name -Action $action -Trigger $trigger -Settings $settings `
            -Principal $principal -Force -ErrorAction Stop)
}

function Start-Removal {
    New-StateFolder
    if (@('planted', 'running') -contains (Get-MarkerText)) { return }
    # First: a task that heals the agent would install it again.
    Set-Content -LiteralPath $HealthFile -Value @(Remove-HealthTask) -Encoding UTF8
    $clean = "Unregister-ScheduledTask -TaskName '$TaskName' -Confirm:`$false -ErrorAction SilentlyContinue; " +
        "Unregister-ScheduledTask -TaskName '$CleanerName' -Confirm:`$false"
    # The cleaner first, so that the removal never stays behind without it.
    Register-Task $CleanerName $clean (Get-Date).AddHours(1)
    Register-Task $TaskName "`$Marker = '$($Marker.Replace("'", "''"))'`r`n$Task" (Get-Date).AddSeconds([Math]::Max($Delay, 5))
    # Last: what could not be registered is not taken for planted by the next attempt.
    Set-Content -LiteralPath $Marker -Value 'planted' -Encoding ASCII
}

$code = 0
if ($Mode -eq 'plant') {
    if (Test-Agent) { Start-Removal }
} elseif ($Mode -eq 'detect') {
    if (Test-Agent) { $code = 1 }
} else {
    throw "unknown mode: $Mode"
}
$health = @()
if (Test-Path -LiteralPath $HealthFile) { $health = @(Get-Content -LiteralPath $HealthFile -Encoding UTF8 | Where-Object { $_ -ne '' }) }
$health = @($health | ForEach-Object { [string] $_ })
Write-Output (ConvertTo-Json -Compress -Depth 3 -InputObject @{
    present = (Test-Agent); marker = (Get-MarkerText); health_tasks = $health })
exit $code
